"""docs/own-data.md: what it says and cannot show by what its commands print."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from conftest import ROOT, SMALL, require, run, with_params
from pages import served
from ruamel.yaml import YAML
from scratch import scratch_copy
from test_bad_input import command

from brain_tumor.source.phantoms.patients import CLASSES
from brain_tumor.source.phantoms.scanner import draw_scan

PAGE = (ROOT / "docs/own-data.md").read_text(encoding="utf-8")
EXPORT = {"dataset": "folder:../export"}

# ---------------------------------------------------------------- refusals


def picture(number: int) -> bytes:
    scan = np.random.default_rng(number).integers(0, 256, (40, 40), np.uint8)
    return cv2.imencode(".png", scan)[1].tobytes()


def write(root: Path, *names: str, content: bytes | None = None) -> None:
    for number, name in enumerate(names):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture(number) if content is None else content)


def named(project: Path, export: dict = EXPORT, **others: dict) -> None:
    with_params(project, data={"main": "hospital", "sources": {"hospital": export} | others})


def raw(project: Path, *names: str, **options: bytes) -> None:
    """Other files in place of those that were downloaded."""
    shutil.rmtree(project / "data/raw/hospital")
    write(project / "data/raw/hospital", *names, **options)


@pytest.fixture(scope="module")
def split_project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with an export of two classes and four patients each, run up to the split."""
    folder = tmp_path_factory.mktemp("refused")
    write(folder / "export", *(f"{label}/p{k}_{label}.png" for label in ("glioma", "no_tumor") for k in range(4)))
    project = folder / "project"
    scratch_copy(project, SMALL)
    named(project)
    with_params(project, audit={"patients": r"(p\d_\w+)\."})
    for stage in ("download@hospital", "preprocess", "audit", "split"):
        run(*command(stage), cwd=project)
    return project


def nowhere(project: Path) -> None:
    named(project, {"dataset": "folder:../exports"})


def only_a_path(project: Path) -> None:
    named(project, {"dataset": "/data/export"})


def dicom(project: Path) -> None:
    shutil.rmtree(project.parent / "export")
    write(project.parent / "export", "glioma/1.dcm", "glioma/2.dcm", "no_tumor/3.dcm", content=bytes(128) + b"DICM")


def link(project: Path) -> None:
    (project.parent / "export/glioma/latest.png").symlink_to("p0_glioma.png")


def patients_as_classes(project: Path) -> None:
    raw(project, *(f"{label}/patient{k}/{k}.png" for k, label in enumerate(("glioma", "glioma", "no_tumor"))))


def parts_as_classes(project: Path) -> None:
    raw(project, "axial/1.png", "axial/2.png", "coronal/1.png")


def two_spellings(project: Path) -> None:
    raw(project, "2023/No Tumor/1.png", "2023/glioma/2.png", "2024/no_tumor/3.png", "2024/glioma/4.png")


def damaged(project: Path) -> None:
    write(project / "data/raw/hospital", "glioma/p9_glioma.png", content=b"not a picture")


def another_name(project: Path) -> None:
    named(project, EXPORT | {"labels": {"healthy": "no_tumor"}})


def other_classes(project: Path) -> None:
    write(project / "data/raw/elsewhere", "yes/1.png", "no/2.png")
    named(project, elsewhere={"dataset": "folder:../elsewhere"})


def no_such_pattern(project: Path) -> None:
    with_params(project, audit={"patients": r"case(\d+)"})


def patients(*rows: str) -> Callable[[Path], None]:
    def write_table(project: Path) -> None:
        (project / "data/patients.csv").write_text("".join(f"{row}\n" for row in rows), encoding="latin-1")

    return write_table


def little(project: Path) -> None:
    with_params(project, audit={"max_group_share": 0.1})


def many_folds(project: Path) -> None:
    with_params(project, split={"folds": 5})


# What an export is changed to, the stage that refuses it, and the beginning of its line in the page.
REFUSED = [
    (nowhere, "download@hospital", "expected a folder of images"),
    (only_a_path, "download@hospital", "params.yaml: data.sources"),
    (dicom, "download@hospital", "expected at least two class folders"),
    (link, "download@hospital", "../export: expected files and folders"),
    (patients_as_classes, "preprocess", "expected class folders in hospital, found 3"),
    (parts_as_classes, "preprocess", "expected class folders in hospital, found 2"),
    (two_spellings, "preprocess", "expected every class of hospital"),
    (damaged, "preprocess", "1 of 9 files"),
    (another_name, "preprocess", "expected the class folders"),
    (other_classes, "preprocess", "expected the classes"),
    (no_such_pattern, "audit", "audit.patients"),
    (patients("path,patient", "glioma/p0_glioma.png,P-7"), "audit", "expected paths of the data set"),
    (patients("path;patient", "hospital/glioma/p0_glioma.png;P-7"), "audit", "expected the columns"),
    (patients("path,patient", "hospital/glioma/p0_glioma.png,J\u00fcrgen"), "audit", "expected UTF-8"),
    (
        patients("path,patient", "hospital/glioma/p0_glioma.png,P-7", "hospital/glioma/p1_glioma.png,p7"),
        "audit",
        "expected the same patient",
    ),
    (little, "audit", "expected no group"),
    (many_folds, "split", "expected at least split.folds"),
]


def quoted() -> list[str]:
    """The messages in the table of the page."""
    table = PAGE.partition("| `error: ...` |")[2].partition("\n\n")[0]
    return re.findall(r"^\| ``? ?(.+?) ?``? \| ", table, re.MULTILINE)


def test_the_page_quotes_no_other_refusals():
    messages = quoted()
    assert len(messages) == len(REFUSED)
    for (_, _, beginning), message in zip(REFUSED, messages, strict=True):
        assert message.startswith(beginning)


@pytest.mark.slow
@pytest.mark.parametrize(("break_it", "stage", "beginning"), REFUSED, ids=[beginning for *_, beginning in REFUSED])
def test_a_refusal_is_said_as_the_page_quotes_it(split_project, tmp_path, break_it, stage, beginning):
    shutil.copytree(split_project.parent, tmp_path / "own")
    project = tmp_path / "own/project"
    break_it(project)
    said = run(*command(stage), cwd=project, fails=True).stderr.splitlines()[-1]
    (message,) = (message for message in quoted() if message.startswith(beginning))
    # Three dots stand for what the page leaves out.
    assert re.fullmatch("error: " + ".+".join(map(re.escape, re.split(r" \.\.\.(?: |$)", message))), said), said


@pytest.mark.slow
def test_a_healthy_class_that_is_none_of_the_classes_is_said(split_project, tmp_path):
    shutil.copytree(split_project.parent, tmp_path / "own")
    project = with_params(tmp_path / "own/project", evaluate={"healthy_class": "healthy"})
    said = run(*command("split"), cwd=project).stderr
    (quote,) = re.findall(r"`warning: (.+?)`", PAGE)
    assert f"warning: {quote}" in said
    for fitting in ("no_tumor", ""):
        with_params(project, evaluate={"healthy_class": fitting})
        assert "warning" not in run(*command("split"), cwd=project).stderr


# ---------------------------------------------------------------- two classes, ten classes


def draw_export(root: Path, classes: list[str], patients: int = 9) -> None:
    """Heads with a bright band, whose height in the picture is the class."""
    for k, label in enumerate(classes):
        (root / label).mkdir(parents=True)
        for number in range(patients):
            person = {"patient": 1 + k * patients + number, "index": 0}
            scan, _ = draw_scan(CLASSES[(k + number) % 4], plane="axial", size=96, seed=5, **person)
            top = 20 + 60 * k // len(classes)
            scan[top : top + 10, 20:76] = 255
            cv2.imwrite(str(root / label / f"p{number}{k}_0.png"), scan)


@pytest.mark.docs
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("classes", "healthy"),
    [(["ill", "well"], "well"), ([f"kind {letter}" for letter in "jihgfedcba"], "")],
    ids=["two", "ten"],
)
def test_any_number_of_classes_ends_in_a_report_and_a_classifier(tmp_path, classes, healthy):
    require("curl")
    draw_export(tmp_path / "export", classes)
    project = tmp_path / "project"
    augment = YAML(typ="safe").load(ROOT / "params.yaml")["train"]["augment"]
    unchanged = dict.fromkeys(augment, 0.0) | {"flip": True}
    train = SMALL["train"] | {"epochs": 40, "patience": 0, "learning_rate": 0.01, "augment": unchanged}
    scratch_copy(project, SMALL | {"train": train, "predict": {"controls": False}})
    (project / ".dvc/config.local").write_text("[core]\n    no_scm = true\n", encoding="utf-8")
    named(project)
    with_params(project, evaluate={"healthy_class": healthy})
    run("dvc", "repro", cwd=project, timeout=800)
    names = sorted(classes)

    scores = json.loads((project / "metrics/test.json").read_text(encoding="utf-8"))["patient_test"]
    assert list(scores["per_class"]) == names
    assert ("tumour" in scores) == bool(healthy) == ("missed" in scores["selective"])
    if healthy:  # one class against the other
        of_class = {name: scores["per_class"][name]["recall"] for name in names}
        told = scores["tumour"]["sensitivity"], scores["tumour"]["specificity"]
        assert told == (of_class["ill"], of_class["well"])
        # Two classes are as probable as can be: without an answer, an image is unsure between them.
        thresholds = json.loads((project / "data/served/thresholds.json").read_text(encoding="utf-8"))["confidence"]
        assert scores["selective"]["no_answer"] == (1 if set(thresholds) == {None} else 0)
    # Of each class three images, in each of three folds, are held out: too few for any threshold.
    assert {sets["mean_size"] for sets in scores["conformal"].values()} == {len(classes)}
    report = (project / "report/index.html").read_text(encoding="utf-8")
    assert all(f'<tr><th scope="row">{name}</th><td>3</td>' in report for name in names)
    assert ("<h3>Tumour vs. no tumour" in report) == ("stricter" in report) == bool(healthy)

    # What is served knows the pictures that it learned from, by the names of their folders.
    folds = pd.read_csv(project / "data/split/folds.csv", dtype=str)
    learned = folds[folds["fold"] == "2"]
    files = [tmp_path / "export" / path.removeprefix("hospital/") for path in learned["path"]]
    told = []
    with served(project / "src/brain_tumor/serving/classifier.tflite") as server:
        for file in files:
            answer = run("curl", "-s", "-F", f"files=@{file}", f"{server.address}v1/predict", cwd=tmp_path).stdout
            told.append(json.loads(answer)["results"][0]["probabilities"])
    assert all(list(probabilities) == names for probabilities in told)
    right = np.mean([max(p, key=p.get) == label for p, label in zip(told, learned["label"], strict=True)])
    assert right > 0.8, right
