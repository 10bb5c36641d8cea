"""The model registry: docs/registry.md is executed, and MODELS.md agrees with the files that it is about."""

import hashlib
import itertools
import json
import re
import subprocess
from pathlib import Path

import dvc.api
import pytest
from conftest import ROOT, run
from dvc.exceptions import ArtifactNotFoundError
from ruamel.yaml import YAML
from walkthrough import masked, pasted, project_in
from walkthrough import run as run_page

NAME = "brain-tumor-classifier"
PAGE = (ROOT / "docs/registry.md").read_text(encoding="utf-8")
MODELS = (ROOT / "MODELS.md").read_text(encoding="utf-8")
ARTIFACT = YAML(typ="safe").load(ROOT / "dvc.yaml")["artifacts"][NAME]
CLASSIFIER = ROOT / ARTIFACT["path"]


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


# ---------------------------------------------------------------- versions and stages


@pytest.fixture(scope="module")
def walked(tmp_path_factory) -> tuple[Path, list]:
    """A git checkout of the project in which the commands of the page have run, and what they printed."""
    project = project_in(tmp_path_factory.mktemp("registry"))
    return project, run_page(PAGE, project)


@pytest.mark.slow
def test_the_page_shows_what_its_commands_print(walked):
    _, told = walked
    assert masked(pasted(PAGE, told)) == masked(PAGE)
    printed = {command: text for block in told for command, text, _ in block}
    assert "Supplied version '1.0.0' cannot be parsed" in printed[f"gto register {NAME} --version 1.0.0 || true"]


@pytest.mark.slow
def test_what_is_fetched_from_a_bare_clone_has_the_same_bytes(walked):
    project, _ = walked
    server = project.parent / "server.git"
    assert run("git", "rev-parse", "--is-bare-repository", cwd=server).stdout == "true\n"
    committed = sha256(CLASSIFIER.read_bytes())
    for name in ("in-use.tflite", "version.tflite"):  # by stage, by version
        assert sha256((project.parent / name).read_bytes()) == committed
    run("dvc", "artifacts", "get", server.as_uri(), NAME, "-o", "latest.tflite", cwd=project.parent)
    assert sha256((project.parent / "latest.tflite").read_bytes()) == committed
    with pytest.raises(ArtifactNotFoundError, match=rf"{NAME} @ 1\.0\.0"):
        dvc.api.artifacts_show(NAME, version="1.0.0", repo=str(server))


@pytest.mark.slow
def test_the_way_back_puts_the_former_version_in_use(walked):
    project, _ = walked
    tags = run("git", "tag", cwd=project).stdout.split()
    assert tags == [f"{NAME}#prod#{k}" for k in (1, 2, 3)] + [f"{NAME}@v1.0.0", f"{NAME}@v1.1.0"]
    commits = [run("git", "rev-parse", f"{tag}^{{commit}}", cwd=project).stdout.strip() for tag in tags]
    assert commits == [commits[0], commits[4], commits[0], commits[0], commits[4]] and commits[0] != commits[4]
    for query, commit in (({"stage": "prod"}, commits[0]), ({"version": "v1.1.0"}, commits[4]), ({}, commits[4])):
        assert dvc.api.artifacts_show(NAME, repo=str(project), **query) == {"rev": commit, "path": ARTIFACT["path"]}


def test_the_artifact_is_the_output_of_the_stage_that_exports_it():
    stages = YAML(typ="safe").load(ROOT / "dvc.yaml")["stages"]
    assert [list(out) for out in stages["export"]["outs"]] == [[ARTIFACT["path"]]] and CLASSIFIER.is_file()
    assert ARTIFACT["type"] == "model" and ARTIFACT["desc"] and "classification" in ARTIFACT["labels"]


def test_the_section_makes_no_stage_run_again(small_run, tmp_path):
    run("git", "clone", "-q", str(small_run), str(tmp_path / "clone"), cwd=tmp_path)
    path = tmp_path / "clone/dvc.yaml"
    text = path.read_text(encoding="utf-8")
    path.write_text(text[: text.index("\nartifacts:")], encoding="utf-8")
    without = run("dvc", "status", "--json", cwd=tmp_path / "clone").stdout
    path.write_text(text, encoding="utf-8")
    assert json.loads(run("dvc", "status", "--json", cwd=tmp_path / "clone").stdout) == json.loads(without)
    assert "modified" not in without and NAME not in (small_run / "dvc.lock").read_text(encoding="utf-8")


# ---------------------------------------------------------------- MODELS.md


def rows(head: str) -> list[list[str]]:
    """Cells of the table that begins with this head."""
    table = MODELS[MODELS.index(f"| {head} |") :].split("\n\n")[0].splitlines()[2:]
    return [[cell.strip().strip("`") for cell in line.strip("|").split("|")] for line in table]


def told(scores: dict, name: str) -> str:
    return f"{scores[name]:.3f} ({scores[f'{name}_ci_low']:.3f} to {scores[f'{name}_ci_high']:.3f})"


def agrees(row: list[str], scores: dict, classifier: bytes) -> bool:
    version, _, _, main, second, official = row
    assert main == told(scores["patient_test"], "macro_f1")
    assert second == (told(own["tumour"], "roc_auc") if (own := scores.get("source_navoneel_own")) else "")
    assert official == told(scores["official_test"], "macro_f1")
    section = MODELS[MODELS.index(f"\n## {version}\n") :].split("\n## ")[1]
    assert f"`{sha256(classifier)}`" in section and f"{len(classifier):,} bytes" in section.replace("\n ", "")
    return True


def test_the_latest_version_is_the_committed_classifier():
    scores = json.loads((ROOT / "metrics/test.json").read_text(encoding="utf-8"))
    assert agrees(rows("version")[0], scores, CLASSIFIER.read_bytes())


@pytest.mark.parametrize("row", rows("version"), ids=lambda row: row[0])
def test_a_version_has_the_scores_and_the_file_of_its_commit(row):
    def content(path: str) -> bytes:
        return subprocess.run(["git", "show", f"{row[1]}:{path}"], cwd=ROOT, capture_output=True, check=True).stdout

    if subprocess.run(["git", "cat-file", "-e", row[1]], cwd=ROOT, capture_output=True).returncode:
        pytest.skip("this checkout has not the whole history")
    assert agrees(row, json.loads(content("metrics/test.json")), content(ARTIFACT["path"]))


def test_every_version_is_compared_with_the_one_before():
    versions = [row[0] for row in rows("version")]
    assert all(re.fullmatch(r"v\d+\.\d+\.\d+", version) for version in versions)
    assert [row[0] for row in rows("from, to")] == [f"{a}, {b}" for b, a in itertools.pairwise(versions)]
    scores = {row[0]: float(row[3].split(" ")[0]) for row in rows("version")}
    for pair, macro_f1, *_, verdict in rows("from, to"):
        difference, low, high = map(float, re.findall(r"[+-]\d\.\d+", macro_f1))
        former, latter = (scores[version] for version in pair.split(", "))
        assert difference == pytest.approx(latter - former, abs=0.0015)
        assert verdict == ("yes" if low > 0 or high < 0 else "no")
