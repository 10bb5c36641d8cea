"""Growth with the number of images: seconds and largest memory of each stage, for simulated scans.

    python benchmarks/growth.py [--sizes 3000 30000 100000] [--folder .demo/growth] [--json FILE]

Each size is a whole run in a fresh copy of the project: scans of 128 x 128 pixels, copies among them, crops looked for,
one fold, a tiny network, one epoch. Of each stage, and of DVC itself, the time and memory of an image in each larger
set stand beside those in the smallest: by 1.15 times more time at most is linear, as much memory in all is flat.
"""

import argparse
import itertools
import math
import sys
from pathlib import Path

from pipeline import ROOT, Stage, fresh, timed
from rows import Row, run
from ruamel.yaml import YAML

_SLICES = 6  # of a patient, on average
_CLASSES = 4
_LINEAR = 1.15
_FLAT = 1.15


def overrides(images: int) -> dict:
    """The parameters of the tests, with so many scans of one source."""
    params = YAML(typ="safe").load(ROOT / "tests" / "small.yaml")
    del params["data"]["sources"]["second"]
    params["phantoms"] |= {"patients": round(images / _SLICES / _CLASSES), "slices": _SLICES, "image_size": 128}
    params["audit"]["max_group_share"] = 0.1
    params["train"] |= {"epochs": 1, "batch_size": 32}
    return params


def measure(arguments: argparse.Namespace) -> list[Row]:
    found: dict[int, dict[str, Stage]] = {}
    for images in sorted(arguments.sizes):
        folder = arguments.folder.resolve()
        fresh(folder, overrides(images))
        total, stages = timed(["dvc", "repro"], folder)
        lines = (folder / "data" / "prepared" / "index.csv").read_bytes().count(b"\n") - 1
        found[lines] = stages | {"a whole run": Stage(total, float("nan"))}
        print(f"{lines:,} images: {total:.0f} s", flush=True)
        for name, stage in stages.items():
            print(f"  {name:24} {stage.seconds:8.1f} s {1000 * stage.seconds / lines:8.2f} ms an image ", end="")
            print(f"{stage.peak:8,.0f} MB", flush=True)
    (few, small), *larger = found.items()
    rows = []
    for (many, large), name in itertools.product(larger, small):
        stage, before, said = large[name], small[name], f"{many:,} images beside {few:,}"
        ours, other = 1000 * stage.seconds / many, 1000 * before.seconds / few
        rows.append(Row(f"{name}: time of an image, {said}", ours, "ms", "the smaller set", other, most=_LINEAR))
        if not math.isnan(stage.peak):
            rows.append(Row(f"{name}: memory, {said}", stage.peak, "MB", "the smaller set", before.peak, most=_FLAT))
    return rows


if __name__ == "__main__":
    sys.exit(
        run(
            __doc__,
            measure,
            sizes={"type": int, "nargs": "+", "default": [3000, 30_000, 100_000]},
            folder={"type": Path, "default": ROOT / ".demo" / "growth"},
        )
    )
