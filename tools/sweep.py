"""Search for better parameters with Optuna: each trial is a DVC experiment, scored on validation images only.

    python tools/sweep.py --trials 20                   # continues the study in sweep.db
    python tools/sweep.py --storage postgresql://...    # several machines, one study

A trial is `dvc exp run --temp` up to the stage `validate`, so that no test score is computed and the workspace stays
as it is. Its objective is macro_f1 in metrics/validation.json. Trials that score below the median of earlier ones are
stopped early (pruned); they are in the study, but not among the experiments.
"""

import argparse
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import dvc.api
import optuna
from ruamel.yaml import YAML
from scratch import ROOT, environment

_STAGE = re.compile(r"^Running stage 'train@(\d+)'")
_EPOCH = re.compile(r"^epoch (\d+),.* validation macro-F1 ([\d.]+)")
# Optuna counts the steps of a trial: its k-th fold (from 0) starts at step k * _FOLD_STEPS.
_FOLD_STEPS = 10_000


class TrialFailed(RuntimeError):
    """The experiment of a trial ended with an error; the message ends with the last output of DVC."""


def suggest(trial: optuna.Trial, key: str, values: dict) -> object:
    """A value for a parameter, from its range or choices in the search space."""
    if "choices" in values:
        return trial.suggest_categorical(key, values["choices"])
    whole = isinstance(values["low"], int) and isinstance(values["high"], int)
    return (trial.suggest_int if whole else trial.suggest_float)(key, **values)


def run_trial(trial: optuna.Trial, name: str, changes: dict, folds: list[int]) -> float:
    """Run one experiment and return its validation macro-F1.

    Raises:
        optuna.TrialPruned: its score is below the median of earlier trials.
        TrialFailed: it ended with an error.
    """
    settings = [part for key, value in changes.items() for part in ("-S", f"{key}={value}")]
    command = ["dvc", "exp", "run", "--temp", "--name", name, "-S", f"run.folds={folds}", *settings, "validate"]
    log = ROOT / "logs" / f"{name}.log"
    log.parent.mkdir(exist_ok=True)
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, "encoding": "utf-8"}
    with (
        open(log, "w", encoding="utf-8") as stream,
        subprocess.Popen(command, cwd=ROOT, env=environment(), start_new_session=True, **options) as process,
    ):
        place = lines = 0
        try:
            for line in process.stdout:
                stream.write(line)
                if found := _STAGE.match(line):
                    place = folds.index(int(found[1]))
                elif found := _EPOCH.match(line):
                    trial.report(float(found[2]), place * _FOLD_STEPS + int(found[1]))
                    lines += 1
                    if trial.should_prune():
                        raise optuna.TrialPruned(f"after {lines} epochs")
        except BaseException:
            os.killpg(process.pid, signal.SIGINT)
            raise
    if process.returncode:
        raise TrialFailed(f"{' '.join(command)} failed, see {log}: " + log.read_text(encoding="utf-8").strip()[-300:])
    return dvc.api.metrics_show("metrics/validation.json", repo=str(ROOT), rev=name)["macro_f1"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=20, help="number of further trials (20)")
    parser.add_argument("--space", type=Path, default=ROOT / "sweep.yaml", help="search space (sweep.yaml)")
    parser.add_argument("--study", default="sweep", help="name; the experiments are NAME-0, NAME-1, ... (sweep)")
    parser.add_argument("--storage", default=f"sqlite:///{ROOT / 'sweep.db'}", help="URL of a database (sweep.db)")
    arguments = parser.parse_args()
    yaml = YAML(typ="safe", pure=True)
    plan, params = yaml.load(arguments.space), yaml.load(ROOT / "params.yaml")
    start = {}
    for key, values in plan["space"].items():
        value = params
        for part in key.split("."):
            if not isinstance(value, dict) or part not in value:
                sys.exit(f"error: expected params of params.yaml in {arguments.space}, received {key!r}: correct it")
            value = value[part]
        if value in values["choices"] if "choices" in values else values["low"] <= value <= values["high"]:
            start[key] = value
    study = optuna.create_study(
        study_name=arguments.study,
        storage=arguments.storage,
        direction="maximize",
        sampler=optuna.samplers.TPESampler(seed=0, multivariate=True),
        pruner=optuna.pruners.MedianPruner(n_startup_trials=4, n_warmup_steps=5),
        load_if_exists=True,
    )
    if not study.trials:
        study.enqueue_trial(start)

    def objective(trial: optuna.Trial) -> float:
        changes = {key: suggest(trial, key, values) for key, values in plan["space"].items()}
        return run_trial(trial, f"{arguments.study}-{trial.number}", changes, plan["folds"])

    study.optimize(objective, n_trials=arguments.trials, catch=(TrialFailed,))
    states = [trial.state.name.lower() for trial in study.trials]
    print(", ".join(f"{states.count(state)} {state}" for state in sorted(set(states))))
    if "complete" not in states:
        sys.exit("error: no trial was completed: see the output of DVC in logs/")
    best = study.best_trial
    print(f"best: {arguments.study}-{best.number}, validation macro-F1 {best.value:.4f}")
    print(f"look: dvc exp show --only-changed; take it: dvc exp apply {arguments.study}-{best.number}")


if __name__ == "__main__":
    main()
