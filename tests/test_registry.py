"""The model registry: versions come out of a bare clone, and MODELS.md agrees with the files that it is about.

`make docs-test` runs the commands of docs/registry.md.
"""

import hashlib
import itertools
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from conftest import ROOT, run
from ruamel.yaml import YAML

NAME = "brain-tumor-classifier"
MODELS = (ROOT / "MODELS.md").read_text(encoding="utf-8")
DVC = YAML(typ="safe").load(ROOT / "dvc.yaml")
ARTIFACT = DVC["artifacts"][NAME]
CLASSIFIER = ROOT / ARTIFACT["path"]


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


# ---------------------------------------------------------------- versions and stages


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Path:
    """A bare clone: v1.0.0 is the classifier and in use, v1.1.0 another file."""
    folder = tmp_path_factory.mktemp("registry")
    project = folder / "project"
    (project / ARTIFACT["path"]).parent.mkdir(parents=True)
    for name in ("dvc.yaml", "dvc.lock", "params.yaml", ".dvc/config", ARTIFACT["path"]):
        (project / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, project / name)
    run("git", "init", "-q", cwd=project)
    git = ["git", "-c", "user.name=test", "-c", "user.email=test@example.org"]
    who = {"GIT_COMMITTER_NAME": "test", "GIT_COMMITTER_EMAIL": "test@example.org"}
    for version, added in (("v1.0.0", b""), ("v1.1.0", b"another")):
        with open(project / ARTIFACT["path"], "ab") as classifier:
            classifier.write(added)
        run("git", "add", "-A", cwd=project)
        run(*git, "commit", "-q", "-m", version, cwd=project)
        run("gto", "register", NAME, "--version", version, cwd=project, **who)
    run("gto", "assign", NAME, "--version", "v1.0.0", "--stage", "prod", cwd=project, **who)
    run("git", "clone", "-q", "--bare", str(project), str(folder / "server.git"), cwd=folder)
    return folder / "server.git"


@pytest.mark.slow
def test_a_version_or_stage_is_fetched_from_a_bare_clone(server, tmp_path):
    def fetched(*options: str, fails: bool = False) -> str:
        out = tmp_path / "fetched.tflite"
        out.unlink(missing_ok=True)
        done = run("dvc", "artifacts", "get", str(server), NAME, "-o", out.name, *options, cwd=tmp_path, fails=fails)
        return done.stderr if fails else sha256(out.read_bytes())

    content = CLASSIFIER.read_bytes()
    assert fetched("--stage", "prod") == fetched("--rev", "v1.0.0") == sha256(content)
    assert fetched() == sha256(content + b"another")  # the highest version
    assert f"{NAME} @ 1.0.0" in fetched("--rev", "1.0.0", fails=True)


def test_the_artifact_is_the_output_of_the_stage_that_exports_it():
    assert [list(out) for out in DVC["stages"]["export"]["outs"]] == [[ARTIFACT["path"]]] and CLASSIFIER.is_file()
    assert ARTIFACT["type"] == "model" and ARTIFACT["desc"] and "classification" in ARTIFACT["labels"]


# ---------------------------------------------------------------- MODELS.md


def rows(head: str) -> list[list[str]]:
    """Cells of the table that begins with this head."""
    table = MODELS[MODELS.index(f"| {head} |") :].split("\n\n")[0].splitlines()[2:]
    return [[cell.strip().strip("`") for cell in line.strip("|").split("|")] for line in table]


def told(scores: dict, name: str) -> str:
    return f"{scores[name]:.3f} ({scores[f'{name}_ci_low']:.3f} to {scores[f'{name}_ci_high']:.3f})"


def check(row: list[str], scores: dict, classifier: bytes) -> None:
    version, _, _, main, second, official = row
    assert main == told(scores["patient_test"], "macro_f1")
    assert second == (told(own["tumour"], "roc_auc") if (own := scores.get("source_navoneel_own")) else "")
    assert official == told(scores["official_test"], "macro_f1")
    section = MODELS[MODELS.index(f"\n## {version}\n") :].split("\n## ")[1]
    assert f"`{sha256(classifier)}`" in section and f"{len(classifier):,} bytes" in section.replace("\n ", "")


def test_the_latest_version_is_the_committed_classifier():
    scores = json.loads((ROOT / "metrics/test.json").read_text(encoding="utf-8"))
    check(rows("version")[0], scores, CLASSIFIER.read_bytes())


@pytest.mark.parametrize("row", rows("version"), ids=lambda row: row[0])
def test_a_version_has_the_scores_and_the_file_of_its_commit(row):
    def content(path: str) -> bytes:
        return subprocess.run(["git", "show", f"{row[1]}:{path}"], cwd=ROOT, capture_output=True, check=True).stdout

    if subprocess.run(["git", "cat-file", "-e", row[1]], cwd=ROOT, capture_output=True).returncode:
        pytest.skip("this checkout has not the whole history")
    check(row, json.loads(content("metrics/test.json")), content(ARTIFACT["path"]))


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
