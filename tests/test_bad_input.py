"""Bad input ends a stage with one clear line, an exit code other than 0 and no half output."""

import zipfile
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
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


def command(stage: str) -> list[str]:
    """What runs a stage by the name that DVC gives it, download@<source>."""
    name, _, source = stage.partition("@")
    return ["python", f"stages/{name}.py", *(["--source", source] if source else [])]


def fails_in_one_line(project: Path, stages: str, *expected: str, **variables: str) -> None:
    """Run stages of the project; the last is to fail, to say `expected` and to leave nothing."""
    *before, last = stages.split()
    for stage in before:
        run(*command(stage), cwd=project, **variables)
    present = files(project)
    done = run(*command(last), cwd=project, fails=True, **variables)
    message = done.stderr.strip().splitlines()[-1]
    assert message.startswith("error: ") and "Traceback" not in done.stderr, done.stderr
    assert not [line for line in expected if line not in message], message
    assert files(project) == present


@pytest.fixture
def other_set(project) -> Path:
    """The project set to a Kaggle data set that has no manifest."""
    data = {"main": "own", "sources": {"own": {"dataset": "someone/heads"}}}
    return with_params(project, data=data, preprocess={"max_rejected": 0.0})


@pytest.fixture
def two_sets(other_set, archive) -> Path:
    """That project with a second source of the classes "yes" and "no", which the main one does not have."""
    folder = archive.with_name("more")
    for name in ("yes/1.png", "yes/2.png", "no/1.png"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        scan = np.random.default_rng(len(name) + sum(name.encode())).integers(0, 256, (40, 40), np.uint8)
        (folder / name).write_bytes(cv2.imencode(".png", scan)[1].tobytes())
    return labelled(other_set, archive, None)


def labelled(project: Path, archive: Path, labels: dict | None, role: str = "learn") -> Path:
    second = {"dataset": f"folder:{archive.with_name('more')}", "role": role}
    second |= {} if labels is None else {"labels": labels}
    return with_params(project, data={"sources": {"own": {"dataset": "someone/heads"}, "more": second}})


def test_unknown_key(project):
    with_params(project, train={"learnin_rate": 0.1})
    fails_in_one_line(project, "download@phantoms", "train.learnin_rate", "0.1", "train.learning_rate")


def test_truncated_zip(other_set, archive):
    archive.write_bytes(archive.read_bytes()[:-200])
    fails_in_one_line(other_set, "download@own", str(archive), DATASET_ARCHIVE=str(archive))


def test_zip_that_reaches_outside(other_set, archive):
    changed = rewritten(archive, **{"../outside.png": b"x"})
    fails_in_one_line(other_set, "download@own", "../outside.png", DATASET_ARCHIVE=str(changed))
    assert not (other_set.parent / "outside.png").exists()


def test_empty_class_folder(other_set, archive):
    changed = rewritten(archive, lambda name: name.startswith("Training/sick/"), **{"Training/sick/": b""})
    fails_in_one_line(other_set, "download@own", "Training/sick", DATASET_ARCHIVE=str(changed))


def test_single_class(other_set, archive):
    changed = rewritten(archive, lambda name: "/sick/" in name)
    fails_in_one_line(other_set, "download@own", "two class", "'well'", DATASET_ARCHIVE=str(changed))


def test_text_file_named_jpg(other_set, archive):
    changed = rewritten(archive, **{"Training/sick/notes.jpg": b"not a scan"})
    fails_in_one_line(
        other_set,
        "download@own preprocess",
        "own/Training/sick/notes.jpg",
        "max_rejected",
        DATASET_ARCHIVE=str(changed),
    )


def test_scans_that_are_only_read_for_prediction(other_set, archive):
    """Half the scans are DICOM; the other half is not learned from without a word."""
    scans = {f"Training/{label}/{k}.dcm": bytes(128) + b"DICM" for label in ("sick", "well") for k in range(3)}
    changed = rewritten(archive, lambda name: name.startswith("Testing/"), **scans)
    expected = ["6 of 12", "max_rejected", "'own/sick/0.dcm'", "DICOM", "convert it to PNG"]
    fails_in_one_line(other_set, "download@own preprocess", *expected, DATASET_ARCHIVE=str(changed))


def test_patients_in_place_of_classes(other_set, archive):
    names = {f"Training/{label}/p{k + start}/{k}.png" for label, start in (("sick", 1), ("well", 3)) for k in range(2)}
    changed = rewritten(archive, lambda name: True, **{name: bytes(10) for name in names})
    expected = ["4 that look like patients", "'p1'", "data.sources.own.labels", "'sick': 'sick'", "audit.patients"]
    fails_in_one_line(other_set, "download@own preprocess", *expected, DATASET_ARCHIVE=str(changed))


def test_a_class_in_two_spellings(other_set, archive):
    with zipfile.ZipFile(archive) as source:
        names = {
            name.replace("sick", "Sick"): source.read(name) for name in source.namelist() if "Testing/sick" in name
        }
    changed = rewritten(archive, lambda name: "Testing/sick" in name, **names)
    expected = ["'Sick', 'sick'", "data.sources.own.labels"]
    fails_in_one_line(other_set, "download@own preprocess", *expected, DATASET_ARCHIVE=str(changed))
    sources = {"own": {"dataset": "someone/heads", "labels": {"Sick": "sick"}}}
    with_params(other_set, data={"sources": sources})
    assert "classes: sick, well" in run(*command("preprocess"), cwd=other_set).stdout


def test_manifest_mismatch(other_set, archive):
    name = "someone--heads.sha256"
    (other_set / "manifests" / name).write_text(
        f"{'0' * 64}  Training/sick/0.png\n{'1' * 64}  Training/sick/gone.png\n"
    )
    fails_in_one_line(
        other_set,
        "download@own",
        "1 missing",
        "1 changed",
        "11 extra",
        "make accept-data SOURCE=",
        DATASET_ARCHIVE=str(archive),
    )
    run(*command("download@own"), "--accept", cwd=other_set, DATASET_ARCHIVE=str(archive))
    run("sha256sum", "--check", "--quiet", f"../../../manifests/{name}", cwd=other_set / "data/raw/own")
    run(*command("download@own"), cwd=other_set, DATASET_ARCHIVE=str(archive))


def test_no_network(other_set, archive):
    with_params(other_set, data={"retries": 0})
    with KaggleStandIn(archive) as stand_in:
        environment = stand_in.environment
    # the stand-in is gone: connections to its port are refused
    fails_in_one_line(other_set, "download@own", "DATASET_ARCHIVE", "make demo", **environment)


def test_stage_without_the_one_before(project):
    fails_in_one_line(project, "split", "data/prepared/index.csv", "dvc repro")


def test_patients_that_match_nothing(project):
    with_params(project, audit={"patients": "patient-([A-Z]+)"})
    fails_in_one_line(project, "download@phantoms download@second preprocess audit", "patient-([A-Z]+)")


# --- several sources

BOTH = "download@own download@more preprocess"


def test_unknown_source(project):
    fails_in_one_line(project, "download@third", "data.sources", "['phantoms', 'second']", "'third'")


def test_accepting_what_has_no_manifest(project):
    done = run(*command("download@second"), "--accept", cwd=project, fails=True)
    assert done.stderr.startswith("error: ") and "phantoms:second" in done.stderr and len(done.stderr.splitlines()) == 1
    assert not (project / "data/raw/second").exists()


def test_archives_without_that_of_the_main_source(other_set, archive):
    """The archive of the second source is not taken for the main one, which is downloaded: here in vain."""
    sources = {"own": {"dataset": "someone/heads"}, "more": {"dataset": "someone/else"}}
    with_params(other_set, data={"sources": sources, "retries": 0})
    folder = archive.with_name("archives")
    folder.mkdir()
    archive.rename(folder / "else.zip")
    with KaggleStandIn(b"") as stand_in:
        environment = stand_in.environment | {"DATASET_ARCHIVE": str(folder)}
    fails_in_one_line(other_set, "download@more download@own", "someone/heads", "make demo", **environment)
    assert (other_set / "data/raw/more/Training/sick/0.png").exists()


def test_class_folder_that_the_main_source_does_not_have(two_sets, archive):
    said = ["['sick', 'well'] in more", "'no'", "data.sources.more.labels", "list of classes", "'drop'", "rename"]
    fails_in_one_line(two_sets, BOTH, *said, DATASET_ARCHIVE=str(archive))
    labelled(two_sets, archive, {"no": "well"}, role="external")
    fails_in_one_line(two_sets, "preprocess", "'yes'", "data.sources.more.labels", "'drop'")


@pytest.mark.parametrize(
    ("value", "said"), [("ill", "'ill'"), (["sick", "ill"], "'ill|sick'"), (["sick", "drop"], "'drop|sick'")]
)
def test_labels_that_name_no_class_of_the_main_source(two_sets, archive, value, said):
    labelled(two_sets, archive, {"yes": value, "no": "well"})
    expected = ["['sick', 'well'] in more", "'yes'", said, "data.sources.more.labels"]
    fails_in_one_line(two_sets, BOTH, *expected, DATASET_ARCHIVE=str(archive))


def test_main_source_of_partial_labels(other_set, archive):
    own = {"dataset": "someone/heads", "labels": {"sick": ["sick", "ill"]}}
    with_params(other_set, data={"sources": {"own": own}})
    said = ["one class a folder", "main source", "data.sources.own.labels", "'sick'"]
    fails_in_one_line(other_set, "download@own preprocess", *said, DATASET_ARCHIVE=str(archive))


def test_labels_of_a_folder_that_is_not_there(two_sets, archive):
    labelled(two_sets, archive, {"yes": "sick", "no": "well", "maybe": "drop", "perhaps": "well"})
    said = ["data.sources.more.labels", "['no', 'yes']", "'maybe'", "correct it"]
    fails_in_one_line(two_sets, BOTH, *said, DATASET_ARCHIVE=str(archive))
    # So it is for the main source.
    sources = {"own": {"dataset": "someone/heads", "labels": {"ill": "sick"}}}
    with_params(two_sets, data={"sources": sources})
    fails_in_one_line(two_sets, "preprocess", "data.sources.own.labels", "['sick', 'well']", "'ill'")


def test_dropped_class_folders_are_said_and_left_out(two_sets, archive):
    labelled(two_sets, archive, {"yes": ["well", "sick"], "no": "drop"})
    for stage in BOTH.split()[:2]:
        run(*command(stage), cwd=two_sets, DATASET_ARCHIVE=str(archive))
    said = run(*command("preprocess"), cwd=two_sets).stderr
    assert "more: 1 images dropped by data.sources.more.labels" in said and "own:" not in said
    index = pd.read_csv(two_sets / "data/prepared/index.csv")
    second = index[index["source"] == "more"]
    assert second["path"].tolist() == ["more/yes/1.png", "more/yes/2.png"]
    assert set(second["label"]) == {"sick|well"} and (index["source"] == "own").sum() == 12
    # A main source may drop folders as well; what it drops is no class.
    sources = {
        "own": {"dataset": "someone/heads", "labels": {"sick": "drop"}},
        "more": {"dataset": f"folder:{archive.with_name('more')}", "labels": {"yes": "sick", "no": "well"}},
    }
    with_params(two_sets, data={"sources": sources})
    fails_in_one_line(two_sets, "preprocess", "['well'] in more", "'yes'", "'sick'", "data.sources.more.labels")
