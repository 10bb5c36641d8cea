"""The pipeline as a user meets it: real DVC on small simulated scans."""

import hashlib
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT, run
from ruamel.yaml import YAML
from scratch import tree_files
from test_rooms import STAGES, WITHOUT_TENSORFLOW

from brain_tumor.networks.calibration import calibrated
from brain_tumor.networks.saving import load_model, read_metadata
from brain_tumor.params import load_params
from brain_tumor.tables.roles import pool_roles

JUDGED = {"predict@validation", "predict@test", "served", "validate", "explain", "novelty", "robustness"}
JUDGED |= {"evaluate", "audit_model", "export", "report"}
DOWNLOADS = {"download@phantoms", "download@second"}
TRAINED = {"train@0", "final"}


def change(project: Path, key: str, value: object) -> None:
    yaml = YAML()
    params = yaml.load(project / "params.yaml")
    *sections, name = key.split(".")
    place = params
    for section in sections:
        place = place[section]
    assert name in place
    place[name] = value
    yaml.dump(params, project / "params.yaml")


def names_of(content: dict, above: str = "") -> set[str]:
    """Names of the figures in a metrics file, as DVC writes them."""
    inner = (names_of(v, f"{above}{k}.") if isinstance(v, dict) else {above + k} for k, v in content.items())
    return set().union(*inner)


def stages_run(output: str) -> list[str]:
    return re.findall(r"Running stage '(.+?)'", output)


def test_end_to_end(small_run, small_clone):
    log = (small_run / "repro.log").read_text(encoding="utf-8")
    ran = stages_run(log)
    assert len(ran) == len(set(ran))
    assert set(ran[:7]) == DOWNLOADS | {"preprocess", "audit", "split", "backbone", "features"}
    assert set(ran[7:9]) == TRAINED and set(ran[9:]) == JUDGED
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
    assert {path.stem for path in (small_run / "plots").glob("*.svg")} == tables | {"training"}
    # Where not every fold is run there is no network of all patients, and that of the first fold is served.
    assert list((small_run / "data/final").iterdir()) == []
    assert read_metadata(small_run / "data/served/model.keras")["fold"] == 0
    again = run("dvc", "repro", cwd=small_clone)
    assert stages_run(again.stdout) == []
    assert "up to date" in run("dvc", "status", cwd=small_clone).stdout
    assert run("git", "status", "--porcelain", cwd=small_clone).stdout == ""


def test_nothing_tracked_tells_where_or_when_it_was_made(small_run):
    for path in run("git", "ls-files", cwd=small_run).stdout.splitlines():
        content = (small_run / path).read_bytes()
        assert str(small_run).encode() not in content, path
        assert not (path.endswith((".csv", ".json", ".lock", ".tsv")) and b"\r" in content), path


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("model.frozen", 0.0, set()),
        ("predict.flips", False, JUDGED),
        ("evaluate.min_class_images", 2, {"validate", "evaluate", "audit_model", "export", "report"}),
        ("evaluate.searched_folds", [1], {"evaluate", "report"}),
        ("run.folds", [0, 1], {"train@1", "final"} | JUDGED),
        ("audit.max_group_share", 0.6, {"audit", "report"}),
        ("data.retries", 4, DOWNLOADS | {"report"}),
    ],
)
def test_a_change_reruns_what_follows_from_it(small_clone, key, value, expected):
    change(small_clone, key, value)
    ran = stages_run(run("dvc", "repro", cwd=small_clone).stdout)
    assert len(ran) == len(expected) and set(ran) == expected


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("train.repeats", 2, TRAINED),
        ("train.patience", 0, TRAINED | {"validate"}),
        ("train.augment.sequence", 0.3, TRAINED),
        ("evaluate.target_miss", 0.3, {"served", "evaluate"}),
        ("evaluate.target_error", 0.3, {"served", "evaluate"}),
        ("model.weights", "imagenet", {"backbone", *TRAINED}),
    ],
)
def test_a_param_is_of_the_stages_that_read_it(small_clone, key, value, expected):
    """The report shows them all."""
    change(small_clone, key, value)
    assert set(json.loads(run("dvc", "status", "--json", cwd=small_clone).stdout)) == expected | {"report"}


def test_what_was_run_before_is_restored_and_not_run_again(small_clone):
    """Only `export` writes a file for git that is neither a metric nor a plot, which the run cache does not keep."""
    change(small_clone, "train.label_smoothing", 0.1)
    run("dvc", "repro", "validate", cwd=small_clone)
    run("git", "checkout", "--force", ".", cwd=small_clone)
    restored = run("dvc", "repro", cwd=small_clone).stdout
    assert set(stages_run(restored)) <= {"export"} and "'train@0' is cached" in restored


EVALUATION = {"served", "validate", "robustness", "evaluate", "export", "report"}


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
        ("training/augment.py", TRAINED),
        ("exported/states.py", {"served", "validate", "novelty", "evaluate", "export"}),
    ],
)
def test_a_changed_file_reruns_the_stages_of_its_room(small_clone, file, expected):
    """And the report, which states the fingerprint of all code that stages depend on."""
    with (small_clone / "src/brain_tumor" / file).open("a", encoding="utf-8") as stream:
        stream.write("# a comment\n")
    expected = expected | {"report"} if expected else set()
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
    folds = pd.read_csv(small_clone / "data/split/folds.csv", dtype=str, keep_default_na=False)
    second = folds[(folds["source"] == "second") & (folds["fold"] == "1") & (folds["target"] != "")]
    assert scores["source_second"]["n"] + scores["source_second"]["n_healthy"] == len(second)
    assert (small_clone / "metrics/test.json").read_bytes() == before


def test_training_again_gives_the_same_bytes(small_clone):
    before = (small_clone / "dvc.lock").read_bytes()
    every = [*sorted(TRAINED), "audit", *sorted(JUDGED)]
    ran = run("dvc", "repro", "--force", "--single-item", *every, cwd=small_clone)
    assert set(stages_run(ran.stdout)) == set(every)
    assert (small_clone / "dvc.lock").read_bytes() == before


def test_a_network_of_all_patients_is_trained_where_every_fold_is_run(whole_run):
    log = (whole_run / "repro.log").read_text(encoding="utf-8")
    trained = {"train@0", "train@1", "train@2", "final"}
    assert (
        set(stages_run(log)) == DOWNLOADS | {"preprocess", "audit", "split", "backbone", "features"} | trained | JUDGED
    )
    metadata = read_metadata(whole_run / "data/final/model.keras")
    assert metadata["fold"] is None and metadata["epoch"] == load_params(whole_run / "params.yaml").train.epochs
    assert metadata["calibration"] == {"scale": 1.0, "biases": [0.0] * 4}
    assert {path.name for path in (whole_run / "plots/training").iterdir()} == {"fold-0", "fold-1", "fold-2"}

    folds = pd.read_csv(whole_run / "data/split/folds.csv", dtype=str, keep_default_na=False)
    joins = pd.read_csv(whole_run / "data/audit/joins.csv", dtype=str, keep_default_na=False)
    main, published = folds["source"] == "phantoms", folds["folder"] == "Testing"
    learned = pool_roles(folds) == "train"
    tested = set(folds["group"][published])
    touching = folds["group"].isin(tested | set(joins["group"][joins["joined"].isin(tested)]))
    assert (learned[main] == ~touching[main]).all(), "nothing that touches the published test folder"
    assert (touching & main & ~published).any() and 0 < learned[~main].sum() < (~main).sum()
    assert not learned[touching].any()
    text = log[log.index("Running stage 'final'") :]
    said = re.search(r", (\d+) training images an epoch", text[: text.index("Running stage", 1)])
    assert int(said[1]) == learned.sum()
    # What of the published folder the pool, and so a network of a fold, may know is told apart from the rest.
    pool = folds["fold"].ne("") & folds["target"].ne("")
    leaked = (published & folds["group"].isin(folds["group"][pool])).sum()
    scores = json.loads((whole_run / "metrics/test.json").read_text(encoding="utf-8"))
    counts = {part: scores.get(f"official_{part}", {"n": 0})["n"] for part in ("test", "leaked", "clean")}
    assert counts == {"test": published.sum(), "leaked": leaked, "clean": published.sum() - leaked}
    for k in range(3):
        text = log[log.index(f"Running stage 'train@{k}'") :]
        in_fold = int(re.search(r", (\d+) training images an epoch", text)[1])
        assert in_fold == (pool & ~folds["fold"].isin([str(k), str((k + 1) % 3)])).sum() < pool.sum()


def test_the_network_of_all_patients_depends_on_what_it_learns_from_and_on_nothing_else(whole_clone):
    """By the pixels: those of the published test folder, of its patients, and of images left out, may be anything."""
    folds = pd.read_csv(whole_clone / "data/split/folds.csv", dtype=str, keep_default_na=False)
    published = folds["group"][folds["folder"] == "Testing"]
    learned = ((folds["fold"] != "") & (folds["target"] != "") & ~folds["group"].isin(published)).to_numpy()
    main = (folds["source"] == "phantoms").to_numpy()
    assert not learned.all() and learned[main].any() and learned[~main].any()
    model, place = whole_clone / "data/final/model.keras", whole_clone / "data/prepared/images.npy"
    before, images = model.read_bytes(), np.load(place)

    def trained_on(changed: np.ndarray) -> bytes:
        noise = np.random.default_rng(0).integers(0, 256, images.shape, np.uint8)
        place.unlink()  # it may be a link to DVC's cache
        np.save(place, np.where(changed[:, None, None], noise, images))
        run("python", "stages/train.py", "--fold", "all", cwd=whole_clone)
        return model.read_bytes()

    assert trained_on(~learned) == before
    for kind in (main, ~main):
        single = np.zeros(len(folds), bool)
        single[np.flatnonzero(learned & kind)[-1]] = True
        assert trained_on(single) != before


def test_the_network_of_all_patients_is_the_one_that_is_served_calibrated(whole_run):
    served, metadata = load_model(whole_run / "data/served/model.keras")
    stated = json.loads((whole_run / "data/served/thresholds.json").read_text(encoding="utf-8"))["calibration"]
    assert metadata["fold"] is None and metadata["calibration"] == stated
    final, _ = load_model(whole_run / "data/final/model.keras")
    images = np.load(whole_run / "data/prepared/images.npy")[..., None]
    before, after = (network.predict(images, verbose=0) for network in (final, served))
    np.testing.assert_allclose(after, calibrated(before, stated["scale"], np.array(stated["biases"])), atol=1e-5)
    for one, other in zip(final.get_weights()[:-2], served.get_weights()[:-2], strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_network_of_all_patients_is_the_same_bytes_again(whole_clone):
    before = (whole_clone / "dvc.lock").read_bytes()
    run("dvc", "repro", "--force", "--single-item", "final", cwd=whole_clone)
    assert (whole_clone / "dvc.lock").read_bytes() == before
    assert stages_run(run("dvc", "repro", cwd=whole_clone).stdout) == []


def test_experiments_run_the_code_of_their_own_tree(small_clone):
    table = small_clone / "src/brain_tumor/evaluation/summary.py"
    table.write_text(table.read_text(encoding="utf-8").replace('"cohort"', '"cohort-of-the-copy"'), encoding="utf-8")
    overrides = ["-S", "train.learning_rate=1e-5", "-S", "train.epochs=1"]
    done = run("dvc", "exp", "run", "--temp", "--name", "slow", *overrides, cwd=small_clone)
    assert "cohort-of-the-copy" in done.stdout
    assert set(stages_run(done.stdout)) == TRAINED | JUDGED

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
