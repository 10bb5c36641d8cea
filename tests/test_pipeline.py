"""The pipeline as a user meets it: real DVC on small simulated scans."""

import hashlib
import json
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from conftest import ROOT, run
from ruamel.yaml import YAML
from scratch import tree_files
from test_rooms import STAGES, WITHOUT_TENSORFLOW

from brain_tumor.params import load_params

JUDGED = {"predict@validation", "predict@test", "external", "validate", "explain", "novelty", "robustness"}
JUDGED |= {"evaluate", "audit_model", "export", "report"}
DOWNLOADS = {"download@phantoms", "download@second"}


def change(project: Path, key: str, value: object) -> None:
    yaml = YAML()
    params = yaml.load(project / "params.yaml")
    section, name = key.split(".")
    params[section][name] = value
    yaml.dump(params, project / "params.yaml")


def names_of(content: dict, above: str = "") -> set[str]:
    """Names of the figures in a metrics file, as DVC writes them."""
    inner = (names_of(v, f"{above}{k}.") if isinstance(v, dict) else {above + k} for k, v in content.items())
    return set().union(*inner)


def stages_run(output: str) -> list[str]:
    return re.findall(r"Running stage '(.+?)'", output)


def test_end_to_end(small_run):
    log = (small_run / "repro.log").read_text(encoding="utf-8")
    ran = stages_run(log)
    assert len(ran) == len(set(ran))
    assert set(ran[:7]) == DOWNLOADS | {"preprocess", "audit", "split", "backbone", "features"}
    assert ran[7] == "train@0" and set(ran[8:]) == JUDGED
    assert "patient_test" in log
    assert not re.search("oneDNN|cpu_feature_guard|absl", log), "TensorFlow's chatter reached the terminal"
    scores = json.loads((small_run / "metrics/test.json").read_text(encoding="utf-8"))
    folds = pd.read_csv(small_run / "data/split/folds.csv", dtype=str, keep_default_na=False)
    main = folds[folds["source"] == "phantoms"]
    assert scores["patient_test"]["n"] == (main["fold"] == "0").sum()
    assert scores["official_test"]["n"] == (main["folder"] == "Testing").sum() > 0
    # The second set shows every picture once.
    second = folds[folds["source"] == "second"]
    assert scores["source_second"]["n"] == (second["fold"] == "0").sum() > 0
    assert set(folds["source"]) == {"phantoms", "second"} and not set(second["folder"]) - {""}
    tables = {"confusion", "precision_recall", "reliability", "risk_coverage", "robustness", "roc", "shortcuts"}
    assert {path.stem for path in (small_run / "plots").glob("*.csv")} == tables
    assert {path.stem for path in (small_run / "plots").glob("*.png")} == tables | {"training"}
    again = run("dvc", "repro", cwd=small_run)
    assert stages_run(again.stdout) == []
    assert "up to date" in run("dvc", "status", cwd=small_run).stdout
    assert run("git", "status", "--porcelain", cwd=small_run).stdout == ""


def test_nothing_tracked_tells_where_or_when_it_was_made(small_run):
    for path in run("git", "ls-files", cwd=small_run).stdout.splitlines():
        content = (small_run / path).read_bytes()
        assert str(small_run).encode() not in content, path
        assert not (path.endswith((".csv", ".json", ".lock", ".tsv")) and b"\r" in content), path


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("model.frozen", 0.0, set()),
        ("predict.flips", False, JUDGED - {"novelty", "export"}),
        ("evaluate.min_class_images", 2, {"validate", "evaluate", "audit_model", "export", "report"}),
        ("evaluate.searched_folds", [1], {"evaluate", "report"}),
        ("run.folds", [0, 1], {"train@1"} | JUDGED),
        ("audit.max_group_share", 0.6, {"audit", "report"}),
        ("data.retries", 4, DOWNLOADS | {"report"}),
    ],
)
def test_a_change_reruns_what_follows_from_it(small_clone, key, value, expected):
    change(small_clone, key, value)
    ran = stages_run(run("dvc", "repro", cwd=small_clone).stdout)
    assert len(ran) == len(expected) and set(ran) == expected


def test_what_was_run_before_is_restored_and_not_run_again(small_clone):
    """Only `export` writes a file for git that is neither a metric nor a plot, which the run cache does not keep."""
    change(small_clone, "train.label_smoothing", 0.1)
    run("dvc", "repro", "validate", cwd=small_clone)
    run("git", "checkout", "--force", ".", cwd=small_clone)
    restored = run("dvc", "repro", cwd=small_clone).stdout
    assert set(stages_run(restored)) <= {"export"} and "'train@0' is cached" in restored


EVALUATION = {"validate", "robustness", "evaluate", "export", "report"}


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        ("split/leaks.py", {"split"}),
        ("evaluation/cohorts.py", EVALUATION),
        ("evaluation/cross_validation.py", EVALUATION),
        ("audit_model/leakage.py", {"audit_model"}),
        ("serving/classifier.py", set()),
        ("params.py", set()),
        ("source/phantoms/second.py", DOWNLOADS | {"preprocess"}),
        ("prepare/sources.py", {"preprocess"}),
        ("split/sources.py", {"split"}),
        ("evaluation/sources.py", EVALUATION),
        ("audit_model/sources.py", {"audit_model"}),
        ("training/augment.py", {"train@0"}),
    ],
)
def test_a_changed_file_reruns_the_stages_of_its_room(small_clone, file, expected):
    with (small_clone / "src/brain_tumor" / file).open("a", encoding="utf-8") as stream:
        stream.write("# a comment\n")
    assert set(json.loads(run("dvc", "status", "--json", cwd=small_clone).stdout)) == expected


@pytest.mark.parametrize(
    ("stage", "key"),
    [
        ("preprocess", "preprocess.image_size"),
        ("download@phantoms", "phantoms.image_size"),
        ("download@second", "phantoms.image_size"),
    ],
)
def test_another_size_is_not_taken_from_the_run_cache(small_clone, stage, key):
    change(small_clone, key, 80)
    assert stages_run(run("dvc", "repro", stage, cwd=small_clone).stdout) == [stage]


def test_a_search_computes_no_test_figure(small_clone):
    before = (small_clone / "metrics/test.json").read_bytes()
    change(small_clone, "train.label_smoothing", 0.1)
    ran = stages_run(run("dvc", "repro", "validate", cwd=small_clone).stdout)
    assert ran == ["train@0", "predict@validation", "validate"]
    scores = json.loads((small_clone / "metrics/validation.json").read_text(encoding="utf-8"))
    assert 0 <= scores["macro_f1_shifted"] <= 1 and len(scores["shifted"]) == 6
    assert scores["macro_f1"] == scores["fold_0"]["macro_f1"]
    assert (small_clone / "metrics/test.json").read_bytes() == before


def test_training_again_gives_the_same_bytes(small_clone):
    before = (small_clone / "dvc.lock").read_bytes()
    run("dvc", "repro", "--force", "--single-item", "train@0", cwd=small_clone)
    for stage in ("audit", *sorted(JUDGED)):
        run("dvc", "repro", "--force", "--single-item", stage, cwd=small_clone)
    assert (small_clone / "dvc.lock").read_bytes() == before


def test_experiments_run_the_code_of_their_own_tree(small_clone):
    table = small_clone / "src/brain_tumor/evaluation/summary.py"
    table.write_text(table.read_text(encoding="utf-8").replace('"cohort"', '"cohort-of-the-copy"'), encoding="utf-8")
    overrides = ["-S", "train.learning_rate=1e-5", "-S", "train.epochs=1"]
    done = run("dvc", "exp", "run", "--temp", "--name", "slow", *overrides, cwd=small_clone)
    assert "cohort-of-the-copy" in done.stdout
    assert set(stages_run(done.stdout)) == {"train@0"} | JUDGED

    # what the documentation shows of experiments works on the result
    shown = run("dvc", "exp", "show", "--csv", cwd=small_clone).stdout
    assert "slow" in shown and "1e-05" in shown
    parameters = json.loads(run("dvc", "params", "diff", "--json", "HEAD", "slow", cwd=small_clone).stdout)
    assert parameters["params.yaml"]["train.learning_rate"]["new"] == 1e-5
    difference = json.loads(run("dvc", "metrics", "diff", "--json", "HEAD", "slow", cwd=small_clone).stdout)
    assert difference["metrics/test.json"]["patient_test.log_loss"]["diff"] != 0
    every = json.loads(run("dvc", "metrics", "diff", "--all", "--json", "HEAD", "slow", cwd=small_clone).stdout)
    files = {f"metrics/{path.name}": json.loads(path.read_text()) for path in (small_clone / "metrics").glob("*.json")}
    assert {name: names_of(content) for name, content in files.items()} == {
        name: set(content) for name, content in every.items()
    }
    for command in (["show"], ["diff", "HEAD", "slow"]):
        plots = json.loads(run("dvc", "plots", *command, "--json", cwd=small_clone).stdout)["data"]
        assert {f"plots/{path.name}" for path in (small_clone / "plots").glob("*.csv")} <= plots.keys()
        assert any(name.endswith("validation/macro_f1.tsv") for name in plots)


def test_stages_without_tensorflow_run_where_it_cannot_be_imported(small_clone):
    for name in ("tensorflow", "keras"):
        (small_clone / "poison" / name).mkdir(parents=True)
        (small_clone / "poison" / name / "__init__.py").write_text("raise SystemExit('imported')")
    needed = {"download": ["--source", "second"]}
    for stage in WITHOUT_TENSORFLOW:
        command = [sys.executable, f"stages/{stage}.py", *needed.get(stage, [])]
        run(*command, cwd=small_clone, PYTHONPATH=str(small_clone / "poison"))


def test_dvc_tracks_every_param():
    stages = {name: set(stage.get("params", [])) for name, stage in STAGES.items()}
    params = load_params(ROOT / "params.yaml")
    for section, value in params.model_dump().items():
        for key in value:
            users = [name for name, keys in stages.items() if {section, f"{section}.{key}"} & keys]
            assert users, f"{section}.{key} is tracked by no stage"
    # a further fold must not re-run the others
    assert not {"run", "run.folds"} & stages["train"]
    # what matters to one source does not bring the others again
    assert {key for key in stages["download"] if key.startswith("data")} == {
        "data.retries",
        "data.stall_seconds",
        "data.sources.${key}.dataset",
    }


def test_tree_without_git(project):
    """From a source archive the pipeline's files are found, results are not taken for them."""
    (project / "data" / "x.csv").write_text("x")
    listed = {path.as_posix() for path in tree_files(project)}
    assert {"src/brain_tumor/split/folds.py", "src/brain_tumor/networks/saving.py", ".dvc/config", "dvc.yaml"} <= listed
    assert "data/x.csv" not in listed
    inputs = {"data/fixes.csv", "data/fixes_by_origin.csv", "data/folds.csv", "data/patients.csv"}
    assert {path for path in listed if path.startswith("data/")} == inputs


def test_an_experiment_without_git_says_what_is_missing(project):
    (project / ".venv").mkdir()
    (project / ".venv" / ".locked").touch()
    done = run("make", "quick", cwd=project, fails=True, GIT_DIR=str(project / "none"))
    assert "git checkout" in done.stderr and "Traceback" not in done.stderr


def digest(folder: Path) -> str:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return hashlib.sha256(b"".join(str(p.relative_to(folder)).encode() + p.read_bytes() for p in files)).hexdigest()


def test_phantoms_are_the_same_in_every_process(project, small_run):
    for source in ("second", "phantoms"):
        subprocess.run([sys.executable, "stages/download.py", "--source", source], cwd=project, check=True)
    assert digest(project / "data/raw") == digest(small_run / "data/raw")
