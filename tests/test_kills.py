"""Whatever is killed, run twice or given a wrong clock: `make repro` ends in the bytes of an undisturbed run."""

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
from conftest import ROOT, require, run
from ruamel.yaml import YAML
from scratch import environment
from test_pipeline import change, digest, stages_run

sys.path.insert(0, str(ROOT / "benchmarks"))
from kills import (
    MAKE,
    Kill,
    below,
    faults,
    forget,
    kill,
    outputs,
    recovered,
    stage_kill,
    with_environment,
)

EPOCHS = 60
FUTURE = time.time() + 10 * 365 * 86400


@pytest.fixture(scope="module")
def expected(small_run) -> dict[str, str]:
    return outputs(small_run)


@pytest.fixture
def clone(small_clone) -> Path:
    """Where all stages have run, and `make` has an environment."""
    require("make")
    with_environment(small_clone)
    return small_clone


def epochs_done(project: Path) -> int:
    for state in (project / "checkpoints").glob("*/state.npz"):
        with np.load(state) as stored:
            return len(json.loads(str(stored["facts"]))["history"])
    return 0


@pytest.mark.timeout(600)
@pytest.mark.parametrize(("stage", "results"), [("train@0", ["models", "plots/training"]), ("final", ["data/final"])])
def test_kills_lose_nothing(small_clone, tmp_path, stage, results):
    """The network of a fold, and that of all patients, which is trained where every fold is run."""
    command = ["dvc", "repro", stage]
    change(small_clone, "train.epochs", EPOCHS)
    change(small_clone, "train.patience", EPOCHS)
    if stage == "final":
        change(small_clone, "run.folds", [0, 1, 2])
    before = [digest(small_clone / folder) for folder in results]
    peace = tmp_path / "peace"
    shutil.copytree(small_clone, peace, symlinks=True)
    run(*command, cwd=peace)
    assert all(digest(peace / folder) != old for folder, old in zip(results, before, strict=True))

    done = 0
    for target in ("stage", "dvc"):
        dvc = subprocess.Popen(command, cwd=small_clone, env=environment(), stdout=subprocess.DEVNULL)
        while epochs_done(small_clone) <= done:
            assert dvc.poll() is None, "it ended before it was killed"
            time.sleep(0.02)
        _, training = below(psutil.Process(dvc.pid))
        os.kill(dvc.pid if target == "dvc" else training.pid, signal.SIGKILL)
        assert dvc.wait() != 0
        psutil.wait_procs([training], timeout=10)
        assert not training.is_running(), "the trainer outlived its dvc"
        assert epochs_done(small_clone) > done
        done = epochs_done(small_clone)
    assert "resuming after epoch" in run(*command, cwd=small_clone).stdout
    for folder in results:
        assert digest(small_clone / folder) == digest(peace / folder)
    assert list((small_clone / "checkpoints").glob("*")) == []
    assert run("git", "status", "--porcelain", "checkpoints", cwd=small_clone).stdout == ""


@pytest.mark.timeout(900)
def test_a_pipeline_whose_every_stage_is_killed(clone, expected):
    """20 kills, each one stage further, so that every stage meets one, or its dvc does: in it, or while it is noted."""
    shutil.rmtree(clone / ".dvc" / "cache")
    run("git", "checkout", "-q", "HEAD~1", cwd=clone)
    run("git", "clean", "-fdxq", "--exclude=.venv", cwd=clone)
    rng, met = random.Random(), []
    for i in range(20):
        # The first stage is the one that was killed before, and may end this time.
        one = kill(MAKE, clone, ("stage", "dvc")[i % 2], rng.uniform(0, 5), starts=1 if i == 0 else 2)
        if not isinstance(one, Kill):
            break
        met.append(one)
    assert len({each.stage for each in met}) >= 10, met
    assert recovered(clone, expected) == [], met


@pytest.mark.timeout(600)
@pytest.mark.parametrize("turn", [0, 1])
def test_killed_while_a_pipeline_comes_back_from_the_cache(clone, expected, turn):
    """As in a fresh clone that shares the cache: hardly a stage runs, and DVC writes all the time."""
    run("git", "checkout", "-q", "HEAD~1", cwd=clone)
    run("git", "clean", "-fdxq", "--exclude=.venv", "--exclude=.dvc", cwd=clone)
    met = [kill(MAKE, clone, "dvc", random.Random().uniform(0, 10)) for _ in range(3)]
    assert isinstance(met[0], Kill)
    assert recovered(clone, expected) == [], met


@pytest.mark.parametrize("cut", ["nothing", "a stage", "the last stages", "the notes of what is in use"])
def test_what_a_killed_dvc_leaves_cut_off_is_mended(clone, expected, cut):
    lock, notes = clone / "dvc.lock", clone / ".dvc" / "tmp" / "rwlock"
    whole = lock.read_text(encoding="utf-8")
    if cut == "the notes of what is in use":
        notes.write_text('{"write": {"', encoding="utf-8")
    else:
        end = {"nothing": 0, "a stage": len(whole) // 2, "the last stages": whole.index("\n  served:\n") + 1}[cut]
        lock.write_text(whole[:end], encoding="utf-8")
    done = run(*MAKE, cwd=clone)
    assert done.stderr.splitlines()[0].count("cut off when dvc was killed") == 1
    assert stages_run(done.stdout) == []
    assert faults(clone, expected) == []


def test_what_a_killed_stage_had_begun_is_removed(clone, expected):
    """Also where no stage runs again; what a running process writes stays."""
    with subprocess.Popen(["true"]) as ended:
        ended.wait()
    locked = YAML(typ="safe").load(clone / "dvc.lock")["stages"].values()
    outputs = [clone / out["path"] for stage in locked for out in stage["outs"]]
    dead = [path.with_name(f"{path.name}.{ended.pid}.former.partial") / "a.jpg" for path in outputs if path.is_dir()]
    files = [path.with_name(f".partial-{ended.pid}-{path.name}") for path in outputs if path.is_file()]
    alive = clone / "data" / f"split.{os.getpid()}.partial" / "folds.csv"
    assert len(dead) > 15 and len(files) > 10
    for path in (*dead, *files, alive):
        path.parent.mkdir(exist_ok=True)
        path.write_text("half")
    assert stages_run(run(*MAKE, cwd=clone).stdout) == []
    assert not any(path.parent.exists() for path in dead) and not any(path.exists() for path in files)
    assert alive.exists()
    shutil.rmtree(alive.parent)
    assert faults(clone, expected) == []


def test_the_state_of_a_training_whose_network_is_there_is_removed(clone, expected):
    """It was run by force and killed, and the network comes from DVC's cache; what another run can use stays."""
    command = ["dvc", "repro", "--single-item", "--force", "train@0"]
    with subprocess.Popen(command, cwd=clone, env=environment(), stdout=subprocess.DEVNULL) as forced:
        while not (found := [*(clone / "checkpoints").glob("*/facts.json")]):
            time.sleep(0.05)
        below(psutil.Process(forced.pid))[1].kill()
    for name, change_facts in (
        ("of other params", lambda facts: facts["train"].update(epochs=99)),
        ("of no fold that is run", lambda facts: facts.update(fold=7)),
    ):
        other = shutil.copytree(found[0].parent, clone / "checkpoints" / name) / "facts.json"
        facts = json.loads(other.read_text(encoding="utf-8"))
        change_facts(facts["params"])
        other.write_text(json.dumps(facts), encoding="utf-8")
    assert stages_run(run(*MAKE, cwd=clone).stdout) == []
    assert {path.name for path in (clone / "checkpoints").iterdir()} == {"of other params", "of no fold that is run"}
    shutil.rmtree(clone / "checkpoints")
    assert faults(clone, expected) == []


def test_a_number_that_another_process_has_by_now_blocks_nothing(clone, expected):
    """DVC tells the dvc that was killed from others by the number of the process alone."""
    used = {"pid": os.getpid(), "cmd": "dvc repro"}
    (clone / ".dvc/tmp/rwlock").write_text(json.dumps({"write": {str(clone / "data/split"): used}}), encoding="utf-8")
    forget(clone, "split")
    assert "is busy" in run("dvc", "repro", "split", cwd=clone, fails=True).stderr
    assert stages_run(run(*MAKE, cwd=clone).stdout) == ["split"]
    assert faults(clone, expected) == []


def test_a_stage_ends_whose_dvc_died_before_it_had_begun(clone):
    """Its parent is another process from its first moment on."""
    used = {"pid": 2**22 + 1, "cmd": "dvc repro"}  # the number of no process
    (clone / ".dvc/tmp/rwlock").write_text(json.dumps({"write": {str(clone / "data/split"): used}}), encoding="utf-8")
    before = (clone / "data/split/folds.csv").stat()
    done = run("python", "stages/split.py", cwd=clone, fails=True, DVC_STAGE="split")
    assert done.stderr == "error: the dvc that started this stage was killed: run `make repro` again\n"
    assert (clone / "data/split/folds.csv").stat() == before


def test_two_at_once(clone, expected):
    forget(clone, "robustness")
    with subprocess.Popen([*MAKE], cwd=clone, env=environment(), stdout=subprocess.DEVNULL) as first:
        while not below(psutil.Process(first.pid))[1]:
            assert first.poll() is None
            time.sleep(0.02)
        second = run(*MAKE, cwd=clone, fails=True)
        assert first.poll() is None, "the first had ended before the second began"
    (line,) = [line for line in second.stderr.splitlines() if not line.startswith("make")]
    assert line == "error: expected to be the only `make repro` in this folder, another one is running: wait for it"
    assert stages_run(second.stdout) == [] and first.returncode == 0
    assert faults(clone, expected) == []


@pytest.mark.parametrize("back", ["-1d", "-10y"])
def test_the_clock_goes_back(clone, expected, back):
    """Finished files are from the future, and what is changed now is older than the results that rest on it."""
    require("faketime")
    for name in ("data", "metrics", "plots", "report"):
        for path in (clone / name).rglob("*"):
            os.utime(path, (FUTURE, FUTURE))
    earlier = time.time() - (86400 if back == "-1d" else 10 * 365 * 86400)
    folds = clone / "data/split/folds.csv"  # damaged, in the same number of bytes
    folds.write_bytes(folds.read_bytes()[::-1])
    page = clone / "src/brain_tumor/report/page.html"
    page.write_text(page.read_text(encoding="utf-8").replace("<title>", "<title>Earlier: "), encoding="utf-8")
    for path in (folds, page):
        os.utime(path, (earlier, earlier))
    clock = {"NO_FAKE_STAT": "1", "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
    done = run("faketime", "-f", back, *MAKE, cwd=clone, **clock)
    assert stages_run(done.stdout) == ["report"]
    assert "<title>Earlier: " in (clone / "report/index.html").read_text(encoding="utf-8")
    found = outputs(clone)
    assert {path for path in expected if found[path] != expected[path]} == {"dvc.lock", "report/index.html"}


def test_out_of_memory(clone, expected, tmp_path):
    """The kernel kills the stage only, if that has a limit of its own."""
    group = Path("/sys/fs/cgroup/memory") / tmp_path.name
    try:
        group.mkdir()
        (group / "memory.limit_in_bytes").write_text(str(100 * 2**20))
    except OSError:
        group = Path("/sys/fs/cgroup") / tmp_path.name
        try:
            group.mkdir()
            (group / "memory.max").write_text(str(100 * 2**20))
        except OSError as error:
            pytest.skip(f"no control group can be made here: {error}")
    forget(clone, "novelty")
    try:
        with subprocess.Popen(
            ["dvc", "repro", "novelty"], cwd=clone, env=environment(), stderr=subprocess.PIPE, text=True
        ) as dvc:
            while not (stage := below(psutil.Process(dvc.pid))[1]):
                assert dvc.poll() is None
                time.sleep(0.01)
            (group / "cgroup.procs").write_text(str(stage.pid))
            said = dvc.communicate()[1]
    finally:
        with contextlib.suppress(OSError):
            group.rmdir()
    assert dvc.returncode != 0
    assert "failed to run: python stages/novelty.py, exited with " in said.splitlines()[-1]
    assert recovered(clone, expected) == []


def test_single_stages(clone, expected):
    """A table, and the one output that DVC's run cache does not keep; the last by force, with nothing changed."""
    for name, victim, again in (("audit", "dvc", False), ("export", "stage", False), ("export", "dvc", True)):
        met = stage_kill(clone, name, victim, random.Random(), again)
        assert recovered(clone, expected) == [], met
