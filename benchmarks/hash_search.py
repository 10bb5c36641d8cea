"""Run time, memory and recall of the search for copies, crops included: 1,000 to 100,000 views.

    python benchmarks/hash_search.py [--scans data/raw] [--sizes 1000 ... 100000] [--exhaustive] [--json FILE]

The views are those of --scans (by default the data set of the last run, or simulated scans if there is none), each bent
by a random smooth field of a few pixels and blended with a second one, so that they look like so many other heads. One
in a hundred is a planted copy: cut by up to a tenth at each edge, in one of the eight orientations, brightened, noisy.
Recall is the share of these that become candidates. --exhaustive compares all hashes at every size.
"""

import argparse
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "tools")]

import cv2  # noqa: E402
import numpy as np  # noqa: E402
from memory import peak_memory  # noqa: E402
from rows import Row, run  # noqa: E402

from brain_tumor.audit import hashing  # noqa: E402
from brain_tumor.audit.hashing import candidates  # noqa: E402
from brain_tumor.audit.views import ORIENTATIONS, SIZE, Views, oriented, resized, view  # noqa: E402
from brain_tumor.imaging.decoding import decode  # noqa: E402
from brain_tumor.params import load_params  # noqa: E402
from brain_tumor.source.layout import list_images  # noqa: E402
from brain_tumor.source.phantoms.planting import draw_data_set  # noqa: E402

_BEND = 6.0  # pixels
_CUT = 0.1  # of the edge, at either side
_LARGE = 100_000


def real_views(scans: Path) -> np.ndarray:
    """(n, SIZE, SIZE) uint8, views of the distinct files in a folder."""
    contents = {(scans / image.path).read_bytes() for image in list_images(scans)}
    return np.stack([view(decode(data)) for data in sorted(contents)])


def further_view(sample: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """A view like those of the sample, and like none of them."""
    one, other = sample[random.integers(0, len(sample), 2)]
    field = random.uniform(-_BEND, _BEND, (2, 5, 5)).astype(np.float32)
    grid = np.indices((SIZE, SIZE), np.float32)[::-1]
    x, y = (
        cv2.resize(bend, (SIZE, SIZE), interpolation=cv2.INTER_CUBIC) + axis
        for bend, axis in zip(field, grid, strict=True)
    )
    return cv2.addWeighted(cv2.remap(one, x, y, cv2.INTER_LINEAR), 0.65, other, 0.35, 0)


def copy_of(picture: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """What somebody made of a view."""
    left, right, top, bottom = (random.uniform(0, _CUT, 4) * SIZE).astype(int)
    part = resized(
        oriented(picture[top : SIZE - bottom, left : SIZE - right], int(random.integers(len(ORIENTATIONS)))), SIZE
    )
    noise = random.standard_normal(part.shape, np.float32) * 3
    return cv2.addWeighted(part, random.uniform(0.7, 1.1), noise, 1, random.uniform(-10, 20), dtype=cv2.CV_8U)


def searched(sample: np.ndarray, n: int, radius: int, most: int) -> tuple[float, float, int]:
    """Seconds and recall of one search, and the number of pairs found."""
    random, planted = np.random.default_rng(n), n // 100
    originals = np.sort(random.choice(n - planted, planted, replace=False))
    copies = []

    def drawn() -> Iterator[np.ndarray]:
        chosen = set(originals.tolist())
        for i in range(n - planted):
            picture = further_view(sample, random)
            if i in chosen:
                copies.append(copy_of(picture, random))
            yield picture
        yield from copies

    views = Views(drawn(), tempfile.gettempdir())
    start = time.perf_counter()
    found = candidates(views, radius, most)
    seconds = time.perf_counter() - start
    pairs = set(zip(np.minimum(found.a, found.b).tolist(), np.maximum(found.a, found.b).tolist(), strict=True))
    hits = sum((source, i) in pairs for i, source in enumerate(originals.tolist(), start=n - planted))
    return seconds, hits / planted, len(pairs)


def measured(*arguments, exhaustive: bool) -> tuple[float, float, int, float]:
    """`searched`, and the largest resident set size of this process in GiB."""
    if exhaustive:
        hashing.EXHAUSTIVE = sys.maxsize
    found = searched(*arguments)
    return *found, peak_memory() / (1 << 30)


def measure(arguments: argparse.Namespace) -> list[Row]:
    options = load_params(ROOT / "params.yaml").audit
    with tempfile.TemporaryDirectory() as folder:
        scans = arguments.scans
        if not scans.is_dir():
            scans = Path(folder)
            truthful = {"test_share": 0.0, "copies": 0.0, "wrong_labels": 0.0}
            draw_data_set(scans, patients=40, slices=6, image_size=128, seed=0, **truthful)
        sample = real_views(scans)
    print(f"made from {len(sample)} scans; candidates differ in up to {options.hash_distance} of {hashing.BITS} bits")
    print(f"{'views':>8} {'seconds':>8} {'times':>6} {'recall':>7} {'pairs':>9} {'peak GiB':>9}")
    before, rows = None, []
    for n in arguments.sizes:
        # In a new process, so that its peak memory is measured alone.
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            job = sample, n, options.hash_distance, options.candidates
            seconds, recall, pairs, peak = pool.apply(measured, job, {"exhaustive": arguments.exhaustive})
            pool.close()
            pool.join()
        growth = f"{seconds / before:.1f}" if before else ""
        print(f"{n:8,} {seconds:8.1f} {growth:>6} {recall:7.4f} {pairs:9,} {peak:9.2f}", flush=True)
        before, what = seconds, f"candidates for copies among {n:,} views, crops included"
        limit = n == _LARGE
        rows += [
            Row(what, seconds, "s", "limit" if limit else "", 600 if limit else None, most=1 if limit else None),
            Row(f"{what}: recall", recall, "", "limit", 0.99, least=1),
            Row(f"{what}: memory", peak, "GiB", "limit", 2, most=1),
        ]
    return rows


if __name__ == "__main__":
    sys.exit(
        run(
            __doc__,
            measure,
            scans={
                "type": Path,
                "default": ROOT / "data" / "raw",
                "help": "data set that the views are made from, simulated scans if there is none",
            },
            sizes={"type": int, "nargs": "+", "default": [1000, 3162, 10_000, 31_623, _LARGE]},
            exhaustive={"action": "store_true", "help": "compare all hashes at every size"},
        )
    )
