"""Several trainings and several experiments at a time end in the same bytes as one after the other."""

import os
import shutil
from pathlib import Path

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
    alone, side_by_side = (Path(shutil.copytree(whole_run, tmp_path / name)) for name in ("alone", "side by side"))
    locks = {}
    for project in (alone, side_by_side):
        shutil.rmtree(project / ".dvc/cache/runs")
    for number, rate in (("1", "0.001"), ("2", "0.003")):
        run("dvc", "exp", "run", "--set-param", f"train.learning_rate={rate}", "train@0", cwd=alone)
        locks["alone", number] = (alone / "dvc.lock").read_text(encoding="utf-8")
        run("git", "checkout", "-q", ".", cwd=alone)
    rates = "train.learning_rate=0.001,0.003"
    run("dvc", "exp", "run", "--queue", "--name", "rate", "--set-param", rates, "train@0", cwd=side_by_side)
    run("dvc", "queue", "start", "--jobs", "2", cwd=side_by_side)
    waiting = "while dvc queue status | grep -q 'Queued\\|Running'; do sleep 1; done; dvc queue status"
    assert run("bash", "-c", waiting, cwd=side_by_side, timeout=600).stdout.count("Success") == 2
    for number in "12":
        named = ["git", "for-each-ref", "--format=%(objectname)", f"refs/exps/**/rate-{number}"]
        commit = run(*named, cwd=side_by_side).stdout.strip()
        locks["side by side", number] = run("git", "show", f"{commit}:dvc.lock", cwd=side_by_side).stdout
    assert locks["alone", "1"] == locks["side by side", "1"] != locks["alone", "2"] == locks["side by side", "2"]


@pytest.mark.timeout(900)
def test_folds_on_two_machines(untrained, whole_run, tmp_path):
    """Each clone runs some of the trainings; the cache of one is copied to the other, which restores them all."""
    other = Path(shutil.copytree(untrained, tmp_path / "other"))
    ran = [
        run("dvc", "repro", *stages, cwd=clone, timeout=600).stdout
        for clone, stages in ((untrained, ["train@0"]), (other, ["train@1", "train@2", "final"]))
    ]
    assert [text.count("Running stage") for text in ran] == [1, 3]
    run("cp", "-ru", f"{other}/.dvc/cache/.", str(untrained / ".dvc/cache"), cwd=tmp_path)
    last = run("dvc", "repro", cwd=untrained, timeout=600).stdout
    assert "Running stage 'train@" not in last and "Running stage 'final'" not in last
    assert all(f"Stage '{name}' is cached" in last for name in ("train@1", "train@2", "final"))
    assert (untrained / "dvc.lock").read_bytes() == (whole_run / "dvc.lock").read_bytes()
