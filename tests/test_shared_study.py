"""Workers of `make sweep` that share a study on a real PostgreSQL server: whatever ends one, no trial is lost."""

import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

import dvc.api
import optuna
import pytest
from conftest import ROOT, run
from postgres import Postgres
from scratch import environment
from storage import errors_in_one_line, open_storage
from test_pipeline import change
from test_privacy import everything, holding

from brain_tumor.errors import PipelineError

pytestmark = pytest.mark.slow
PASSWORD = "0".join(["planted", "database", "password"])  # not as a whole in this file

# A trial notes its params, and is held while there is a file of its worker's name.
WORKER = """
import sys, time
from pathlib import Path
import optuna
from storage import errors_in_one_line, open_storage
from study import Sampler, TrialFailed, add, is_hopeless, work
from brain_tumor.errors import ending_in_one_line

url, name, count, grace = sys.argv[1:]

def objective(trial):
    x, y = trial.suggest_float("x", 0, 1), trial.suggest_categorical("y", ["a", "b"])
    with open("runs", "a") as runs:
        runs.write(f"{name} {trial.number} {x!r} {y}\\n")
    while Path(name).exists():
        time.sleep(0.02)
        is_hopeless(trial, x, 1)
    if Path("broken").exists():
        raise TrialFailed("it is broken")
    return x

with ending_in_one_line(), errors_in_one_line(url):
    options = {"direction": "maximize", "sampler": Sampler(), "load_if_exists": True}
    study = optuna.create_study(study_name="sweep", storage=open_storage(url), **options)
    add(study, int(count), {"x": 0.25})
    work(study, objective, float(grace))
"""


@pytest.fixture(scope="module")
def server():
    with Postgres(PASSWORD) as running:
        yield running


@pytest.fixture
def study(server, tmp_path, monkeypatch):
    """The workers of an empty study."""
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    with Workers(server, tmp_path) as made:
        yield made
    optuna.delete_study(study_name="sweep", storage=server.url)


class Workers:
    """Workers in a folder; a context manager, which ends them."""

    def __init__(self, server: Postgres, folder: Path) -> None:
        self._server, self._folder, self._all = server, folder, []

    def __enter__(self) -> "Workers":
        return self

    def __exit__(self, *error: object) -> None:
        for process in self._all:
            with suppress(ProcessLookupError):
                process.send_signal(signal.SIGCONT)
                process.kill()
            process.communicate()

    def start(self, name: str, trials: int, held: bool = False, grace: float = 4) -> subprocess.Popen:
        """Start one that adds trials; a held one stays in its first trial until it is let go."""
        if held:
            (self._folder / name).touch()
        command = [sys.executable, "-c", WORKER, self._server.url, name, str(trials), str(grace)]
        paths = {"PYTHONPATH": f"{ROOT / 'tools'}:{ROOT / 'src'}"}
        streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        process = subprocess.Popen(command, cwd=self._folder, env=environment() | paths, **streams)
        self._all.append(process)
        return process

    def let_go(self, name: str) -> None:
        (self._folder / name).unlink()

    def breaking(self) -> None:
        """From now on trials fail."""
        (self._folder / "broken").touch()

    def runs(self) -> list[list[str]]:
        """Worker, number and params of every run so far."""
        path = self._folder / "runs"
        return [line.split() for line in path.read_text().splitlines()] if path.exists() else []

    def states(self) -> Counter:
        study = optuna.load_study(study_name="sweep", storage=self._server.url)
        return Counter(trial.state.name for trial in study.trials if trial.user_attrs.get("reason") != "superfluous")


def until(holds, seconds: int = 60) -> None:
    for _ in range(50 * seconds):
        if holds():
            return
        time.sleep(0.02)
    raise AssertionError("it never came to this")


def ended(process: subprocess.Popen, code: int = 0) -> tuple[str, str]:
    output, errors = process.communicate(timeout=60)
    assert process.returncode == code and "Traceback" not in errors, errors
    return output, errors


def test_a_trial_of_a_killed_worker_is_run_again_once_by_one_of_the_others(study):
    """All start at once on an empty database, and wait for each other's trials at the end."""
    workers = {name: study.start(name, trials=3, held=name == "a") for name in "abcd"}
    until(lambda: [run[0] for run in study.runs()].count("a") == 1 and len(study.runs()) == 12)
    until(lambda: study.states() == {"COMPLETE": 11, "RUNNING": 1})
    workers["a"].kill()
    for name in "bcd":
        ended(workers[name])
    assert study.states() == {"COMPLETE": 12, "FAIL": 1}
    runs = study.runs()
    (lost,) = (params for worker, _, *params in runs if worker == "a")
    again = [worker for worker, _, *params in runs if params == lost]
    assert len(runs) == 13 and len(again) == 2 and again[1] in "bcd"
    assert len({x for _, _, x, _ in runs}) == 12, "each draws other random numbers"
    assert "0.25" in {x for _, _, x, _ in runs}, "the first trial has the params that it was given"


def test_a_worker_that_was_only_asleep_does_not_count_twice(study):
    asleep = study.start("a", trials=2, held=True)
    until(study.runs)
    asleep.send_signal(signal.SIGSTOP)
    ended(study.start("b", trials=0))
    assert study.states() == {"COMPLETE": 2, "FAIL": 1}
    study.let_go("a")
    asleep.send_signal(signal.SIGCONT)
    assert "taken over by another worker" in ended(asleep)[0]
    assert study.states() == {"COMPLETE": 2, "FAIL": 1} and len(study.runs()) == 3


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_worker_gives_its_trial_back_at_once(study, how):
    interrupted = study.start("a", trials=2, held=True, grace=9999)
    until(study.runs)
    interrupted.send_signal(how)
    ended(interrupted, 128 + how)
    ended(study.start("b", trials=0, grace=9999))
    assert study.states() == {"COMPLETE": 2, "FAIL": 1}


def test_trials_that_fail_by_themselves_are_not_run_again_and_end_the_worker(study):
    study.breaking()
    _, errors = ended(study.start("a", trials=5), 1)
    assert errors == "error: 3 trials in a row failed here, the last one with: it is broken\n"
    assert study.states() == {"FAIL": 3, "WAITING": 2} and len(study.runs()) == 3


def test_a_restart_of_the_database_is_waited_for(study, server):
    worker = study.start("a", trials=2, held=True, grace=20)
    until(study.runs)
    server.stop()
    study.let_go("a")
    time.sleep(1)
    server.start()
    ended(worker)
    assert study.states() == {"COMPLETE": 2} and len(study.runs()) == 2
    server.stop()
    try:
        _, errors = ended(study.start("a", trials=1), 1)
    finally:
        server.start()
    assert errors.startswith("error: cannot use the database postgresql://sweep@127.0.0.1:") and errors.count("\n") == 1
    assert "Connection refused" in errors


# --- with DVC

SPACE = "folds: [0]\nspace:\n  train.learning_rate: {low: 0.001, high: 0.01, log: true}\n"


@pytest.mark.timeout(600)
def test_two_clones_share_a_study_and_one_is_killed_while_it_trains(small_run, server, tmp_path):
    """What they have in common is the URL, whose password is in nothing that they write."""
    url = server.url.replace("@", f":{PASSWORD}@")
    clones = [Path(shutil.copytree(small_run, tmp_path / name)) for name in ("first", "second")]
    for clone in clones:
        (clone / "space.yaml").write_text(SPACE)
        change(clone, "train.epochs", 20)
    command = [sys.executable, "tools/sweep.py", "--space", "space.yaml", "--storage", url, "--grace", "6"]
    log = clones[0] / "logs/sweep-0.log"
    with subprocess.Popen([*command, "--trials", "1"], cwd=clones[0], env=environment()) as first:
        until(lambda: log.exists() and "epoch 2," in log.read_text(), seconds=120)
        first.kill()
    done = run(*command, "--trials", "0", cwd=clones[1])
    until(lambda: subprocess.run(["pgrep", "-f", str(clones[0])], capture_output=True).stdout == b"")
    assert "sweep-1: " in done.stdout and "1 complete\nbest: sweep-1" in done.stdout
    assert [len(list((clone / ".dvc/tmp/exps/standalone").glob("tmp*"))) for clone in clones] == [0, 0]
    assert [run("dvc", "exp", "list", "--name-only", cwd=clone).stdout.split() for clone in clones] == [[], ["sweep-1"]]
    lost, again = optuna.load_study(study_name="sweep", storage=url).trials
    assert lost.params == again.params and (lost.state.name, again.state.name) == ("FAIL", "COMPLETE")
    params = dvc.api.params_show("params.yaml", repo=str(clones[1]), rev="sweep-1")
    assert params["train"]["learning_rate"] == again.params["train.learning_rate"] and params["run"]["folds"] == [0]
    assert holding({"output": (done.stdout + done.stderr).encode(), **everything(tmp_path)}, PASSWORD) == []


# --- the address


def opened(url: str) -> str:
    """The error about a URL, which has no password in it."""
    with pytest.raises(PipelineError) as error, errors_in_one_line(url):
        open_storage(url)
    line = str(error.value)
    assert "\n" not in line and "secret" not in line and PASSWORD not in line
    return line


def test_errors_of_the_address_are_one_line_without_the_password(server, monkeypatch):
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    place = server.url.partition("@")[2]
    user = f"postgresql://sweep:{PASSWORD}@{place}"
    open_storage(user)
    assert "password authentication failed" in opened(f"postgresql://sweep:secret@{place}")
    assert 'database "none" does not exist' in opened(server.url.replace("/postgres", "/none"))
    assert 'database "none" does not exist' in opened(server.url.replace("/postgres", f"/none?password={PASSWORD}"))
    assert "Connection refused" in opened("postgresql://sweep:secret@127.0.0.1:1/sweep")
    assert "invalid connection option" in opened(f"{server.url}?secre=t")
    assert "expected the driver of postgresql+psycopg2" in opened(f"postgresql+psycopg2://x:secret@{place}")
    assert "expected a database that SQLAlchemy knows" in opened("redis://x:secret@127.0.0.1/0")
    for wrong in ("secret", "postgresql://x:a@secret@127.0.0.1:1/y", "postgresql://x@127.0.0.1:secret/y"):
        assert "expected the URL of a database" in opened(wrong)
    assert "unable to open database file" in opened("sqlite:////none/sweep.db")
