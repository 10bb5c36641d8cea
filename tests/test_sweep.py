"""`make sweep`: trials are DVC experiments, judged on validation, pruned, and kept in a study."""

import json
import subprocess
import sys

import optuna
import pytest
import sweep
from conftest import run
from scratch import environment
from test_pipeline import change
from test_training import learn

SPACE = """
folds: [0, 1]
space:
  train.learning_rate: {low: 0.001, high: 0.01, log: true}
  train.label_smoothing: {choices: [0.0, 0.05]}
  train.epochs: {low: 1, high: 2}
"""


@pytest.mark.slow
def test_the_score_of_each_epoch_is_read_from_what_a_training_prints(capsys):
    _, history = learn()
    found = [sweep._EPOCH.match(line) for line in capsys.readouterr().out.splitlines()]
    read = [(int(match[1]), float(match[2])) for match in found if match]
    assert read == [(row["epoch"], round(row["validation/macro_f1"], 3)) for row in history]


@pytest.mark.timeout(900)
def test_trials_are_experiments_and_the_study_goes_on(small_clone):
    (small_clone / "space.yaml").write_text(SPACE)
    before = {path: (small_clone / path).read_bytes() for path in ("params.yaml", "dvc.lock", "metrics/test.json")}
    for trials in (2, 1):
        command = ["tools/sweep.py", "--trials", str(trials), "--space", "space.yaml"]
        done = run(sys.executable, *command, cwd=small_clone)
    assert {path: (small_clone / path).read_bytes() for path in before} == before
    study = optuna.load_study(study_name="sweep", storage=f"sqlite:///{small_clone / 'sweep.db'}")
    assert [trial.state.name for trial in study.trials] == ["COMPLETE"] * 3
    shown = json.loads(run("dvc", "exp", "show", "--json", cwd=small_clone).stdout)
    experiments = {
        rev["name"]: rev["data"] for base in shown for exp in base["experiments"] or [] for rev in exp["revs"]
    }
    assert set(experiments) == {"sweep-0", "sweep-1", "sweep-2"}
    for trial in study.trials:
        data = experiments[f"sweep-{trial.number}"]
        assert data["metrics"]["metrics/validation.json"]["data"]["macro_f1"] == trial.value
        params = data["params"]["params.yaml"]["data"]
        assert params["train"]["learning_rate"] == pytest.approx(trial.params["train.learning_rate"])
        assert params["run"]["folds"] == [0, 1]
        # the test figures are those of the commit: no trial computed any
        assert data["metrics"]["metrics/test.json"]["data"] == json.loads(before["metrics/test.json"])
    assert study.trials[0].params["train.epochs"] == 2, "the first trial takes params.yaml as it is"
    assert f"best: sweep-{study.best_trial.number}" in done.stdout


def test_a_hopeless_trial_is_stopped(small_clone):
    """A study that knows better trials prunes this one, and nothing of it stays behind."""
    (small_clone / "space.yaml").write_text("folds: [0]\nspace:\n  run.seed: {low: 0, high: 9}\n")
    url = f"sqlite:///{small_clone / 'sweep.db'}"
    study = optuna.create_study(study_name="sweep", storage=url, direction="maximize")
    for number in range(6):
        values = dict.fromkeys(range(1, 60), 1.1)  # more than any training can reach
        distribution = {"run.seed": optuna.distributions.IntDistribution(0, 9)}
        study.add_trial(
            optuna.trial.create_trial(
                params={"run.seed": number}, distributions=distribution, value=1.1, intermediate_values=values
            )
        )
    change(small_clone, "train.epochs", 50)
    run(sys.executable, "tools/sweep.py", "--trials", "1", "--space", "space.yaml", cwd=small_clone)
    trial = optuna.load_study(study_name="sweep", storage=url).trials[-1]
    assert trial.state.name == "PRUNED" and len(trial.intermediate_values) < 50
    assert run("dvc", "exp", "list", "--name-only", cwd=small_clone).stdout.strip() == ""
    left = subprocess.run(["pgrep", "-f", str(small_clone)], capture_output=True, text=True, env=environment())
    assert left.stdout == ""


def test_an_unknown_param_in_the_space_is_refused(small_clone):
    (small_clone / "space.yaml").write_text("folds: [0]\nspace:\n  train.rate: {low: 0.1, high: 1.0}\n")
    done = run(sys.executable, "tools/sweep.py", "--space", "space.yaml", cwd=small_clone, fails=True)
    assert done.stderr.startswith("error: ") and "train.rate" in done.stderr and len(done.stderr.splitlines()) == 1
