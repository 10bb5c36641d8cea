"""Several trainings and several experiments at a time end in the same bytes as one after the other."""

import os
import shutil

import pytest
from conftest import run
from ruamel.yaml import YAML

pytestmark = pytest.mark.docs
TIMES = int(os.environ.get("TIMES", "1"))


@pytest.fixture
def untrained(whole_run, tmp_path):
    """A run of every fold whose networks are gone, from the run cache as well, and were made by another command."""
    target = tmp_path / "project"
    shutil.copytree(whole_run, target)
    yaml = YAML()
    lock = yaml.load(target / "dvc.lock")
    for name in [name for name in lock["stages"] if name == "final" or name.startswith("train@")]:
        lock["stages"][name]["cmd"] = "another"  # kept in its place, so that the order of the lock is the same
    yaml.dump(lock, target / "dvc.lock")
    for gone in ("models", "data/final", ".dvc/cache/runs"):
        shutil.rmtree(target / gone)
    (target / ".venv").mkdir()
    (target / ".venv/.locked").touch()
    return target


@pytest.mark.timeout(900)
@pytest.mark.parametrize("time", range(TIMES))
def test_folds_two_at_a_time(untrained, whole_run, time):
    done = run("make", "repro", "JOBS=2", cwd=untrained, timeout=600)
    assert (untrained / "dvc.lock").read_bytes() == (whole_run / "dvc.lock").read_bytes()
    assert done.stdout.count("Running stage 'train@") == 3 and "Running stage 'final'" in done.stdout
    assert "lock" not in done.stderr.lower().replace("dvc.lock", "").replace("lock file", "")


@pytest.mark.timeout(900)
@pytest.mark.parametrize("time", range(TIMES))
def test_experiments_two_at_a_time(whole_run, tmp_path, time):
    locks = {}
    for jobs in ("1", "2"):
        target = tmp_path / jobs
        shutil.copytree(whole_run, target)
        shutil.rmtree(target / ".dvc/cache/runs")
        rates = "train.learning_rate=0.001,0.003"
        run("dvc", "exp", "run", "--queue", "--name", "rate", "--set-param", rates, "train@0", cwd=target)
        run("dvc", "queue", "start", "--jobs", jobs, cwd=target)
        waiting = "while dvc queue status | grep -q 'Queued\\|Running'; do sleep 1; done; dvc queue status"
        assert run("bash", "-c", waiting, cwd=target, timeout=600).stdout.count("Success") == 2
        for name in ("rate-1", "rate-2"):
            ref = f"$(git for-each-ref --format='%(objectname) %(refname)' refs/exps | grep '/{name}$' | cut -d' ' -f1)"
            locks[jobs, name] = run("bash", "-c", f"git show {ref}:dvc.lock", cwd=target).stdout
    assert locks["1", "rate-1"] == locks["2", "rate-1"] != locks["1", "rate-2"] == locks["2", "rate-2"]
