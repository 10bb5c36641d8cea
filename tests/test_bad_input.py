"""Bad input ends a stage with one clear line, an exit code other than 0 and no half output."""

import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import run, with_params
from kaggle_stand_in import KaggleStandIn


@pytest.fixture
def archive(tmp_path) -> Path:
    """A zip of a sound data set: two classes in two folders, three images each."""
    path = tmp_path / "archive.zip"
    with zipfile.ZipFile(path, "w") as opened:
        for folder in ("Training", "Testing"):
            for label in ("sick", "well"):
                for i in range(3):
                    scan = np.random.default_rng(i).integers(0, 256, (40, 40), np.uint8)
                    opened.writestr(f"{folder}/{label}/{i}.png", cv2.imencode(".png", scan)[1].tobytes())
    return path


def rewritten(archive: Path, drop=lambda name: False, **added: bytes) -> Path:
    """A copy of a zip without some of its files and with others."""
    target = archive.with_name("changed.zip")
    with zipfile.ZipFile(archive) as source, zipfile.ZipFile(target, "w") as changed:
        for name in source.namelist():
            if not drop(name):
                changed.writestr(name, source.read(name))
        for name, content in added.items():
            changed.writestr(name, content)
    return target


def files(project: Path) -> set[Path]:
    """All but caches and logs."""
    return {path for path in project.rglob("*") if path.is_file() and not {"__pycache__", "logs"} & set(path.parts)}


def fails_in_one_line(project: Path, stages: str, *expected: str, **variables: str) -> None:
    """Run stages of the project; the last is to fail, to say `expected` and to leave nothing."""
    *before, last = stages.split()
    for stage in before:
        run("python", f"stages/{stage}.py", cwd=project, **variables)
    present = files(project)
    done = run("python", f"stages/{last}.py", cwd=project, fails=True, **variables)
    message = done.stderr.strip().splitlines()[-1]
    assert message.startswith("error: ") and "Traceback" not in done.stderr, done.stderr
    assert not [line for line in expected if line not in message], message
    assert files(project) == present


@pytest.fixture
def other_set(project) -> Path:
    """The project set to a Kaggle data set that has no manifest."""
    return with_params(project, data={"dataset": "someone/heads"}, preprocess={"max_rejected": 0.0})


def test_unknown_key(project):
    with_params(project, train={"learnin_rate": 0.1})
    fails_in_one_line(project, "download", "train.learnin_rate", "0.1", "train.learning_rate")


def test_truncated_zip(other_set, archive):
    archive.write_bytes(archive.read_bytes()[:-200])
    fails_in_one_line(other_set, "download", str(archive), DATASET_ARCHIVE=str(archive))


def test_zip_that_reaches_outside(other_set, archive):
    changed = rewritten(archive, **{"../outside.png": b"x"})
    fails_in_one_line(other_set, "download", "../outside.png", DATASET_ARCHIVE=str(changed))
    assert not (other_set.parent / "outside.png").exists()


def test_empty_class_folder(other_set, archive):
    changed = rewritten(archive, lambda name: name.startswith("Training/sick/"), **{"Training/sick/": b""})
    fails_in_one_line(other_set, "download", "Training/sick", DATASET_ARCHIVE=str(changed))


def test_single_class(other_set, archive):
    changed = rewritten(archive, lambda name: "/sick/" in name)
    fails_in_one_line(other_set, "download", "two class", "'well'", DATASET_ARCHIVE=str(changed))


def test_text_file_named_jpg(other_set, archive):
    changed = rewritten(archive, **{"Training/sick/notes.jpg": b"not a scan"})
    fails_in_one_line(
        other_set, "download preprocess", "Training/sick/notes.jpg", "max_rejected", DATASET_ARCHIVE=str(changed)
    )


def test_manifest_mismatch(other_set, archive):
    name = "someone--heads.sha256"
    (other_set / "manifests" / name).write_text(
        f"{'0' * 64}  Training/sick/0.png\n{'1' * 64}  Training/sick/gone.png\n"
    )
    fails_in_one_line(
        other_set, "download", "1 missing", "1 changed", "11 extra", "make accept-data", DATASET_ARCHIVE=str(archive)
    )
    run("python", "stages/download.py", "--accept", cwd=other_set, DATASET_ARCHIVE=str(archive))
    run("sha256sum", "--check", "--quiet", f"../../manifests/{name}", cwd=other_set / "data/raw")
    run("python", "stages/download.py", cwd=other_set, DATASET_ARCHIVE=str(archive))


def test_no_network(other_set, archive):
    with_params(other_set, data={"retries": 0})
    with KaggleStandIn(archive) as stand_in:
        environment = stand_in.environment
    # the stand-in is gone: connections to its port are refused
    fails_in_one_line(other_set, "download", "DATASET_ARCHIVE", "make demo", **environment)


def test_stage_without_the_one_before(project):
    fails_in_one_line(project, "split", "data/prepared/index.csv", "dvc repro")


def test_patients_that_match_nothing(project):
    with_params(project, audit={"patients": "patient-([A-Z]+)"})
    fails_in_one_line(project, "download preprocess audit", "patient-([A-Z]+)")
