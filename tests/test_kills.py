"""A training that is killed, or whose dvc is, goes on at the next `dvc repro` and ends in the same bytes."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
from conftest import ROOT, run
from scratch import environment
from test_pipeline import change, digest

sys.path.insert(0, str(ROOT / "benchmarks"))
from kills import trainer

EPOCHS = 60


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
    for target in ("trainer", "dvc", "dvc", "trainer"):
        dvc = subprocess.Popen(command, cwd=small_clone, env=environment(), stdout=subprocess.DEVNULL)
        while epochs_done(small_clone) <= done:
            assert dvc.poll() is None, "it ended before it was killed"
            time.sleep(0.02)
        training = trainer(psutil.Process(dvc.pid))
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
