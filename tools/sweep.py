"""Search for better parameters with Optuna: each trial is a DVC experiment, scored on validation images only.

    python tools/sweep.py --trials 20                                 # continues the study in sweep.db
    python tools/sweep.py --trials 20 --storage postgresql://...      # the same for several machines,
    python tools/sweep.py --trials 0 --storage postgresql://...       # the others of which help

A trial is `dvc exp run --temp` up to the stage `validate`, so that no test score is computed and the workspace stays
as it is. Its objective is macro_f1 in metrics/validation.json. Trials that score below the median of earlier ones are
stopped early (pruned); they are in the study, but not among the experiments.
"""

import argparse
import platform
import re
import signal
import subprocess
import sys
from pathlib import Path

import dvc.api
import optuna
from ruamel.yaml import YAML
from scratch import ROOT, environment

sys.path.insert(0, str(ROOT / "src"))

from storage import errors_in_one_line, open_storage
from study import Sampler, TrialFailed, add, asked_for, is_hopeless, work

from brain_tumor.errors import PipelineError, ending_in_one_line

_STAGE = re.compile(r"^Running stage 'train@(\d+)'")
_EPOCH = re.compile(r"^epoch (\d+),.* validation macro-F1 ([\d.]+)")
# Optuna counts the steps of a trial: its k-th fold (from 0) starts at step k * _FOLD_STEPS.
_FOLD_STEPS = 10_000


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
        TrialFailed: it ended with an error; the message ends with the last output of DVC.
    """
    settings = [part for key, value in changes.items() for part in ("-S", f"{key}={value}")]
    command = ["dvc", "exp", "run", "--temp", "--name", name, "-S", f"run.folds={folds}", *settings, "validate"]
    log = ROOT / "logs" / f"{name}.log"
    log.parent.mkdir(exist_ok=True)
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, "encoding": "utf-8"}
    with (
        open(log, "w", encoding="utf-8", buffering=1) as stream,
        subprocess.Popen(command, cwd=ROOT, env=environment(), start_new_session=True, **options) as process,
        _ended_with_this_process(process.pid) as guard,
    ):
        place = lines = 0
        for line in process.stdout:
            stream.write(line)
            if found := _STAGE.match(line):
                place = folds.index(int(found[1]))
            elif found := _EPOCH.match(line):
                lines += 1
                if is_hopeless(trial, float(found[2]), place * _FOLD_STEPS + int(found[1])):
                    raise optuna.TrialPruned(f"after {lines} epochs")
        process.wait()
        guard.kill()
    if process.returncode:
        raise TrialFailed(f"{' '.join(command)} failed, see {log}: " + log.read_text(encoding="utf-8").strip()[-300:])
    return dvc.api.metrics_show("metrics/validation.json", repo=str(ROOT), rev=name)["macro_f1"]


def _ended_with_this_process(group: int) -> subprocess.Popen:
    """Interrupt a group of processes when the block or this process ends, even by SIGKILL: then the pipe is closed."""
    command = ["sh", "-c", 'read _; kill -s INT -- "-$0"', str(group)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--trials", type=int, default=20, help="number of further trials (20); 0: only help with others"
    )
    parser.add_argument("--space", type=Path, default=ROOT / "sweep.yaml", help="search space (sweep.yaml)")
    parser.add_argument("--study", default="sweep", help="name; the experiments are NAME-0, NAME-1, ... (sweep)")
    parser.add_argument("--storage", default=f"sqlite:///{ROOT / 'sweep.db'}", help="URL of a database (sweep.db)")
    parser.add_argument(
        "--grace", type=float, default=120, help="seconds of silence after which a worker's trial goes to another (120)"
    )
    arguments = parser.parse_args()
    if arguments.grace <= 0:
        parser.error(f"expected seconds above 0 (--grace), got {arguments.grace}")
    # A shell may have started this in the background, where SIGINT is ignored, and DVC would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with ending_in_one_line(), errors_in_one_line(arguments.storage):
        _sweep(arguments)


def _sweep(arguments: argparse.Namespace) -> None:
    plan = YAML(typ="safe", pure=True).load(arguments.space)
    start = _start(plan["space"], arguments.space)
    study = optuna.create_study(
        study_name=arguments.study,
        storage=open_storage(arguments.storage),
        direction="maximize",
        sampler=Sampler(),
        pruner=optuna.pruners.MedianPruner(n_startup_trials=4, n_warmup_steps=5),
        load_if_exists=True,
    )
    add(study, arguments.trials, start)

    def objective(trial: optuna.Trial) -> float:
        trial.set_user_attr("clone", f"{platform.node()}:{ROOT}")  # which has the experiment
        changes = {key: suggest(trial, key, values) for key, values in plan["space"].items()}
        return run_trial(trial, f"{arguments.study}-{trial.number}", changes, plan["folds"])

    work(study, objective, arguments.grace)
    states = [trial.state.name.lower() for trial in asked_for(study.trials)]
    print(", ".join(f"{states.count(state)} {state}" for state in sorted(set(states))))
    if "complete" not in states:
        raise PipelineError("no trial was completed: see the output of DVC in logs/")
    best = study.best_trial
    name = f"{arguments.study}-{best.number}"
    print(f"best: {name}, validation macro-F1 {best.value:.4f}")
    if not subprocess.run(["git", "for-each-ref", f"refs/exps/**/{name}"], cwd=ROOT, capture_output=True).stdout:
        print(f"it is in {best.user_attrs.get('clone', 'another clone')}: dvc exp push there, then dvc exp pull here")
    print(f"look: dvc exp show --only-changed; take it: dvc exp apply {name}")


def _start(space: dict, path: Path) -> dict:
    """The values of params.yaml that are in the space."""
    start, params = {}, YAML(typ="safe", pure=True).load(ROOT / "params.yaml")
    for key, values in space.items():
        value = params
        for part in key.split("."):
            if not isinstance(value, dict) or part not in value:
                raise PipelineError(f"expected params of params.yaml in {path}, received {key!r}: correct it")
            value = value[part]
        if value in values["choices"] if "choices" in values else values["low"] <= value <= values["high"]:
            start[key] = value
    return start


if __name__ == "__main__":
    main()
