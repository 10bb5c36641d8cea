"""The audit as a user meets it: real stages on data of any shape, splits that leak, fixes that lead to a re-run."""

import json
import re
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from conftest import ROOT, run, with_params
from ruamel.yaml import YAML

from brain_tumor.source.phantoms.patients import CLASSES
from brain_tumor.source.phantoms.scanner import draw_scan

STAGES = ("download", "preprocess", "audit", "split")


def metrics(project: Path, name: str = "audit") -> dict:
    return json.loads((project / f"metrics/{name}.json").read_text(encoding="utf-8"))


def only(project: Path, name: str, dataset: str, **changes: dict) -> Path:
    """A project with a single source, and further changes of its params."""
    return with_params(project, data={"main": name, "sources": {name: {"dataset": dataset}}}, **changes)


def run_stages(project: Path, source: str, *stages: str) -> None:
    for stage in stages:
        run("python", f"stages/{stage}.py", *(["--source", source] if stage == "download" else []), cwd=project)


def draw_folder(root: Path, folders: list[str], classes: list[str], patients: int) -> None:
    """Scans of other names, sizes and formats than the Kaggle set; the first of each class is copied, smaller and
    turned, into the last folder."""
    endings = (".png", ".jpg", ".tif", ".bmp", ".jpeg", ".webp")
    for c, label in enumerate(classes):
        for k in range(patients):
            name = CLASSES[(c + k) % 4]
            size = 96 + 8 * ((c + 3 * k) % 9)
            scan, _ = draw_scan(name, plane="axial", patient=1 + c * patients + k, index=0, size=size, seed=5)
            if k % 5 == 4:
                scan = scan.astype(np.uint16) * 257
            ending = ".png" if scan.dtype == np.uint16 else endings[(c + k) % len(endings)]
            folder = root / folders[k % len(folders)] / label
            folder.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(folder / f"scan {k}{ending}"), scan if k % 2 else cv2.cvtColor(scan, cv2.COLOR_GRAY2BGR))
            if k == 0:
                copied = root / folders[-1] / label
                copied.mkdir(parents=True, exist_ok=True)
                smaller = cv2.resize(np.rot90(scan), None, fx=0.9, fy=0.9, interpolation=cv2.INTER_AREA)
                cv2.imwrite(str(copied / "copy.png"), smaller)


@pytest.mark.parametrize(
    "folders, classes",
    [
        (["."], ["well", "ill: very"]),
        (["Training", "Testing"], ["NA", "1", "2"]),
        (["site A/2019", "site A/2020", "site B"], [f"grade {k}" for k in range(10)]),
    ],
    ids=["two classes in one pool", "training and testing", "ten classes in deep folders"],
)
def test_any_folder_of_classes_is_audited_and_split(project, tmp_path, folders, classes):
    draw_folder(tmp_path / "scans", folders, classes, patients=9)
    only(
        project,
        "own",
        f"folder:{tmp_path / 'scans'}",
        audit={"patients": None, "max_group_share": 0.5},
        split={"official_test": "Testing"},
    )
    run_stages(project, "own", *STAGES)
    assert list(metrics(project)) == ["own"]
    figures = metrics(project)["own"]
    assert figures["n"] == len(classes) * 10
    assert figures["copies"]["groups"] == len(classes)
    assert figures["copies"]["largest"] == 2
    assert figures["conflicts"]["label"] == 0
    assert ("folders" in figures) == (len(folders) > 1)
    table = pd.read_csv(project / "data/split/folds.csv", dtype=str, keep_default_na=False)
    assert set(table["label"]) == set(classes)
    assert (table[table["fold"] != ""].groupby("group")["fold"].nunique() == 1).all()


@pytest.mark.timeout(600)
def test_a_whole_run_on_a_set_without_a_published_test(project, tmp_path):
    draw_folder(tmp_path / "scans", ["."], ["left", "right"], patients=12)
    only(
        project,
        "own",
        f"folder:{tmp_path / 'scans'}",
        audit={"patients": None},
        run={"folds": [0, 1]},
        train={"epochs": 1},
        predict={"controls": False},
    )
    run_stages(project, "own", *STAGES, "backbone", "features")
    for fold in (0, 1):
        run("python", "stages/train.py", "--fold", str(fold), cwd=project)
    for part in ("validation", "test"):
        run("python", "stages/predict.py", "--part", part, cwd=project)
    run_stages(
        project,
        "own",
        "served",
        "validate",
        "explain",
        "novelty",
        "robustness",
        "evaluate",
        "audit_model",
        "export",
        "report",
    )
    figures = metrics(project, "audit_model")
    assert {name: part["test"]["leaking"] for name, part in figures["leakage"].items()} == {"fold_0": 0, "fold_1": 0}
    assert "network" not in figures["shortcuts"]
    assert set(figures["labels"]) == {"judged", "suspicious", "per_class"}


def numbers(value) -> list:
    if isinstance(value, dict):
        return [leaf for inner in value.values() for leaf in numbers(inner)]
    return [value]


def test_what_the_audit_says_of_a_run_is_numbers(small_run):
    for name in ("audit", "audit_model"):
        leaves = numbers(metrics(small_run, name))
        assert leaves
        assert all(type(leaf) in (int, float) and np.isfinite(leaf) for leaf in leaves)
    truth, others = (
        pd.read_csv(small_run / f"data/raw/{name}/truth.csv", keep_default_na=False) for name in ("phantoms", "second")
    )
    figures, model = metrics(small_run)["phantoms"], metrics(small_run, "audit_model")
    further = metrics(small_run)["second"]
    assert figures["copies"]["groups"] == truth.loc[truth["copy_of"] != "", "copy_of"].nunique()
    assert figures["share_without_patient"] == pytest.approx((~truth["path"].str.contains(r"p\d+_")).mean(), abs=1e-6)
    assert further["n"] == len(others)
    assert further["shared"]["phantoms"] == {"images": (others["copy_of"] != "").sum(), "conflicts": 0}
    assert model["leakage"]["fold_0"]["test"]["leaking"] == 0
    assert {"brain_masked", "brain_only", "whole_image"} == set(model["shortcuts"]["network"])


@pytest.fixture
def leaking(project) -> Path:
    """Phantoms, audited; Testing holds copies of Training images."""
    only(
        project,
        "scans",
        "phantoms",
        phantoms={"copies": 0.3, "patients": 8},
        split={"strategy": "official", "on_leak": "fail"},
    )
    run_stages(project, "scans", *STAGES[:3])
    return project


def test_a_split_that_leaks_ends_the_run(leaking):
    done = run("python", "stages/split.py", cwd=leaking, fails=True)
    message = done.stderr.strip().splitlines()[-1]
    truth = pd.read_csv(leaking / "data/raw/scans/truth.csv", keep_default_na=False)
    crossing = truth[(truth["copy_of"] != "") & truth["path"].str.startswith("Testing")]
    assert message.startswith(f"error: {len(crossing)} images of the split 'official'")
    assert f"scans/{crossing['path'].iloc[0]}" in message
    assert "(official_test)" in message and "split.on_leak" in message
    assert not (leaking / "data/split").exists()

    with_params(leaking, split={"on_leak": "report"})
    assert f"warning: {len(crossing)} images" in run("python", "stages/split.py", cwd=leaking).stderr
    assert (leaking / "data/split/folds.csv").is_file()

    with_params(leaking, split={"on_leak": "drop"})
    assert "warning" not in run("python", "stages/split.py", cwd=leaking).stderr


def test_a_fix_leads_to_a_rerun_and_is_counted(small_clone):
    folds = pd.read_csv(small_clone / "data/split/folds.csv", dtype=str)
    dropped, relabelled = folds["path"][folds["folder"] == "Testing"].iloc[[0, 1]]
    classes = sorted(set(folds["label"][folds["source"] == "phantoms"]))
    label = next(name for name in classes if f"/{name}/" not in relabelled)
    (small_clone / "data/fixes.csv").write_text(
        f"path,action,reason\n{dropped},drop,no head\n{relabelled},relabel:{label},the other copy says so\n"
    )
    done = run("dvc", "repro", "split", cwd=small_clone)
    assert "2 fixes applied" in done.stdout
    assert metrics(small_clone)["phantoms"]["fixes"] == {"dropped": 1, "relabelled": 1}
    assert metrics(small_clone)["second"]["fixes"] == {"dropped": 0, "relabelled": 0}
    again = pd.read_csv(small_clone / "data/split/folds.csv", dtype=str).set_index("path")
    assert len(again) == len(folds) - 1 and dropped not in again.index
    assert again.loc[relabelled, "label"] == label
    difference = json.loads(run("dvc", "metrics", "diff", "--json", cwd=small_clone).stdout)
    assert difference["metrics/audit.json"]["phantoms.fixes.dropped"]["new"] == 1


@pytest.mark.timeout(1200)  # three whole pipelines after that of the fixture
def test_what_leakage_does_is_shown_by_three_experiments(small_clone):
    (small_clone / ".venv").mkdir()
    (small_clone / ".venv/.locked").touch()
    # The Makefile names a source of the committed params; the second one of the small run stands in for it.
    others = re.findall(r"^SECOND \?= ([\w-]+)$", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    sources = YAML(typ="safe").load(ROOT / "params.yaml")["data"]["sources"]
    assert others and all(sources[name].get("role", "learn") == "learn" for name in others)
    shown = run("make", "effect", "SECOND=second", cwd=small_clone, timeout=840).stdout
    table = shown[shown.rindex("Experiment") :]
    for name in ("split-patient", "split-random", "split-official"):
        assert name in table
    assert "random_test.macro_f1" in table and "official_clean.accuracy" in table
    changes = json.loads(run("dvc", "metrics", "diff", "--json", "HEAD", "split-random", cwd=small_clone).stdout)
    assert changes["metrics/audit_model.json"]["leakage.fold_0.test.leaking"]["new"] > 0
