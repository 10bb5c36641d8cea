"""CONTRIBUTING's table of additions: each one is made and run, and touches at most three files beside its own."""

import json
import sys
import tarfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import run, with_params


class Addition:
    """Changes of a project that add something."""

    def __init__(self, project: Path) -> None:
        self.project, self.touched = project, set()

    def write(self, path: str, text: str) -> None:
        assert not (self.project / path).exists()
        (self.project / path).write_text(text, encoding="utf-8")

    def change(self, path: str, old: str, new: str) -> None:
        text = (self.project / path).read_text(encoding="utf-8")
        assert text.count(old) == 1, f"{old!r} in {path}"
        (self.project / path).write_text(text.replace(old, new), encoding="utf-8")
        self.touched.add(path)
        assert len(self.touched) <= 3


@pytest.fixture
def addition(small_clone: Path) -> Addition:
    return Addition(small_clone)


def test_a_backbone(addition):
    addition.write(
        "src/brain_tumor/networks/tiny.py",
        """
import keras
import numpy as np


def tiny_trunk(size: int) -> keras.Model:
    inputs = keras.Input((size, size, 1), name="pixels")
    return keras.Model(inputs, keras.layers.Conv2D(3, 5, 4, activation="relu")(inputs), name="tiny")


def tiny_weights(weights: str) -> tuple[list[np.ndarray], dict]:
    return [np.full((5, 5, 1, 3), 0.04, np.float32), np.ones(3, np.float32)], {"made_of": weights}
""",
    )
    trunks = "src/brain_tumor/networks/trunks.py"
    imports = "from brain_tumor.networks.tiny import tiny_trunk, tiny_weights"
    addition.change(trunks, "import compact_trunk\n", f"import compact_trunk\n{imports}\n")
    backbone = '"tiny": Backbone(lambda size, width, stride: tiny_trunk(size), tiny_weights)'
    addition.change(trunks, "BACKBONES = {", f"BACKBONES = {{{backbone}, ")
    with_params(addition.project, model={"backbone": "tiny", "weights": "thin-air", "frozen": 1.0})
    shown = run("dvc", "repro", "validate", cwd=addition.project).stdout
    assert "tiny: " in shown and "validation: macro_f1" in shown
    about = json.loads((addition.project / "data/backbone/about.json").read_text(encoding="utf-8"))
    assert about["made_of"] == "thin-air" and about["arrays"] == 2
    # One kernel of the mean, so all features of an image are equal, and one more than its brightness.
    features = np.load(addition.project / "data/features/features.npy")
    assert features.shape[1:] == (2, 3) and np.ptp(features, axis=2).max() < 1e-3 and features.min() >= 1


def test_a_metric(addition):
    addition.write(
        "src/brain_tumor/metrics/top_two.py",
        """
import numpy as np


def top_two_accuracy(actual: np.ndarray, probabilities: np.ndarray) -> float:
    best = np.argsort(-probabilities, axis=1)[:, :2]
    return float((best == actual[:, None]).any(axis=1).mean())
""",
    )
    scores, imports = "src/brain_tumor/metrics/scores.py", "from brain_tumor.metrics.top_two import top_two_accuracy"
    addition.change(scores, "\n\n\ndef cohort", f"\n{imports}\n\n\ndef cohort")
    addition.change(
        scores,
        "    shares = counts / counts.sum()\n",
        '    figures["top_two_accuracy"] = rounded(top_two_accuracy(actual, probabilities))\n'
        "    shares = counts / counts.sum()\n",
    )
    run("dvc", "repro", "evaluate", cwd=addition.project)
    stated = json.loads((addition.project / "metrics/test.json").read_text())["patient_test"]["top_two_accuracy"]
    table = pd.read_csv(addition.project / "data/predictions/test/fold-0.csv")
    table = table[(table["role"] == "test") & (table["source"] == "phantoms")]
    ranks = table.filter(regex="^p_").rank(axis=1, ascending=False)
    own = [ranks.loc[row, f"p_{label}"] for row, label in table["label"].items()]
    assert stated == pytest.approx(np.mean(np.array(own) <= 2), abs=1e-6)
    changed = json.loads(run("dvc", "metrics", "diff", "--json", cwd=addition.project).stdout)
    assert "patient_test.top_two_accuracy" in changed["metrics/test.json"]


def test_a_data_source(addition, tmp_path):
    with tarfile.open(tmp_path / "scans.tar", "w") as archive:
        archive.add(addition.project / "data/raw/phantoms/Training", ".")
    addition.write(
        "src/brain_tumor/source/tarball.py",
        """
import tarfile
from pathlib import Path
from tempfile import TemporaryDirectory

from brain_tumor.source.fetching import copy_folder


def unpack_tarball(source: Path, target: Path) -> None:
    with TemporaryDirectory() as scratch, tarfile.open(source) as archive:
        archive.extractall(scratch, filter="data")
        copy_folder(Path(scratch), target)
""",
    )
    phantoms = '"phantoms": r"phantoms(|:second)",'
    addition.change("src/brain_tumor/params.py", phantoms, f'{phantoms} "tar": "tar:(.+)",')
    download, imports = "stages/download.py", "from brain_tumor.source.tarball import unpack_tarball"
    addition.change(download, "\n\n_PHANTOMS =", f"\n{imports}\n\n_PHANTOMS =")
    addition.change(
        download,
        '    elif kind == "folder":',
        '    elif kind == "tar":\n        unpack_tarball(Path(place), target)\n    elif kind == "folder":',
    )
    raw = addition.project / "data/raw"
    before = {path.name for path in (raw / "phantoms/Training").rglob("*.jpg")}
    others = {path: path.read_bytes() for path in (raw / "second").rglob("*.jpg")}
    sources = {"phantoms": {"dataset": f"tar:{tmp_path / 'scans.tar'}"}, "second": {"dataset": "phantoms:second"}}
    with_params(addition.project, data={"sources": sources})
    run("dvc", "repro", "download", cwd=addition.project)
    assert {path.name for path in (raw / "phantoms").rglob("*.jpg")} == before
    assert not (raw / "phantoms/Training").exists()
    assert {path: path.read_bytes() for path in (raw / "second").rglob("*.jpg")} == others


def test_a_reader_of_scans(addition, tmp_path):
    addition.write(
        "src/brain_tumor/serving/readers/npy.py",
        """
import io

import numpy as np

from brain_tumor.serving.readers.common import Slices, choose, levels, to_bytes


def is_npy(data: bytes) -> bool:
    return data.startswith(b"\\x93NUMPY")


def read_npy(data: bytes, wanted: str | int, max_pixels: int) -> Slices:
    volume = np.load(io.BytesIO(data), allow_pickle=False)
    chosen = choose(wanted, len(volume), [len(volume) // 2])
    return Slices(len(volume), {i: to_bytes(volume[i], *levels(volume, 0)) for i in chosen})
""",
    )
    formats = "src/brain_tumor/serving/readers/formats.py"
    imports = "from brain_tumor.serving.readers.npy import is_npy, read_npy"
    addition.change(formats, "import read_picture\n", f"import read_picture\n{imports}\n")
    addition.change(formats, "FORMATS = (\n", 'FORMATS = (\n    Format((".npy",), is_npy, read_npy),\n')
    (tmp_path / "scans").mkdir()
    np.save(tmp_path / "scans/brain.npy", np.random.default_rng(0).normal(size=(3, 64, 64)))
    command = [sys.executable, "-m", "brain_tumor", "predict", str(tmp_path / "scans"), "--slice", "all", "--json"]
    shown = run(*command, cwd=addition.project, PYTHONPATH=str(addition.project / "src")).stdout
    assert [json.loads(line)["slice"] for line in shown.splitlines()] == [0, 1, 2]


def test_a_stage(addition):
    addition.write(
        "stages/count.py",
        """
from _stage import run

from brain_tumor.files import write_json
from brain_tumor.tables.csv_tables import read_table


def main(params, arguments):
    write_json("metrics/count.json", {"images": len(read_table("data/prepared/index.csv"))})


if __name__ == "__main__":
    run(main)
""",
    )
    addition.change(
        "dvc.yaml",
        "stages:\n",
        "stages:\n"
        "  count:\n"
        "    cmd: python stages/count.py\n"
        "    deps: [stages/count.py, data/prepared/index.csv, src/brain_tumor/tables]\n"
        "    metrics:\n"
        "      - metrics/count.json: {cache: false}\n\n",
    )
    run("dvc", "repro", cwd=addition.project)
    expected = len(pd.read_csv(addition.project / "data/prepared/index.csv"))
    shown = json.loads(run("dvc", "metrics", "show", "--json", cwd=addition.project).stdout)
    assert shown[""]["data"]["metrics/count.json"]["data"] == {"images": expected}
