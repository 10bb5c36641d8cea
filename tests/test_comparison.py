"""Is a difference larger than chance? Planted differences, and the tool on real commits."""

import json
import re

import numpy as np
import pandas as pd
import pytest
from conftest import run, with_params
from sklearn.metrics import f1_score

from brain_tumor.evaluation.comparison import paired_differences

NAMES = ["ant", "bee"]


def predictions(right: np.ndarray, labels: np.ndarray) -> pd.DataFrame:
    called = np.where(right, labels, 1 - labels)
    table = pd.DataFrame({"path": [f"{i}.jpg" for i in range(len(labels))], "label": np.array(NAMES)[labels]})
    return table.assign(group=np.arange(len(labels)) // 5, p_ant=1.0 - called, p_bee=called.astype(float))


def drawn(seed: int, n: int = 600) -> tuple[np.ndarray, np.ndarray]:
    """Labels, and whether a network is right: a matter of the patient."""
    rng = np.random.default_rng(seed)
    return rng.integers(0, 2, n), rng.random(n) < np.repeat(rng.beta(2, 0.5, n // 5), 5)


def test_a_planted_difference_is_seen_and_a_copy_has_none():
    labels, right = drawn(0)
    former = predictions(right, labels)
    better = right | (np.random.default_rng(1).random(600) < 0.3)
    count, found = paired_differences(former, predictions(better, labels))
    assert count == 600
    score = found["macro_f1"]
    assert score["former"] == pytest.approx(f1_score(labels, np.where(right, labels, 1 - labels), average="macro"))
    assert 0 < score["low"] < score["difference"] < score["high"]
    none = paired_differences(former, former)[1]["macro_f1"]
    assert none["difference"] == none["low"] == none["high"] == 0


def test_pairing_makes_it_narrower_than_two_intervals_apart():
    labels, right = drawn(2)
    flipped = right ^ (np.random.default_rng(3).random(600) < 0.02)
    found = paired_differences(predictions(right, labels), predictions(flipped, labels))[1]["accuracy"]
    apart = paired_differences(predictions(right, labels), predictions(drawn(4)[1], labels))[1]["accuracy"]
    assert found["high"] - found["low"] < 0.5 * (apart["high"] - apart["low"])
    assert found["low"] < 0 < found["high"] or abs(found["difference"]) > 0


def test_only_shared_images_count_and_other_classes_are_refused():
    labels, right = drawn(5)
    frame = predictions(right, labels)
    assert paired_differences(frame[:400], frame[100:])[0] == 300
    with pytest.raises(ValueError, match="both"):
        paired_differences(frame[:100], frame[100:])
    with pytest.raises(ValueError, match="same classes"):
        paired_differences(frame.rename(columns={"p_bee": "p_wasp"}), frame)


def test_two_commits_are_compared_as_text_for_a_pull_request(small_clone):
    with_params(small_clone, evaluate={"searched_folds": [1]})  # fold 0 alone is scored, so no figure depends on it
    run("dvc", "repro", "evaluate", cwd=small_clone)
    run("git", "commit", "-qam", "other metrics", cwd=small_clone)
    shown = run("python", "tools/compare.py", "HEAD~1", "HEAD", cwd=small_clone).stdout
    assert re.search(r"\| params.yaml +\| evaluate.searched_folds +\| \[2\] +\| \[1\] +\|", shown)
    metrics = json.loads((small_clone / "metrics/test.json").read_text(encoding="utf-8"))["patient_test"]
    assert f"On the {metrics['n']} images" in shown
    assert f"| accuracy | {metrics['accuracy']:.3f} | {metrics['accuracy']:.3f} | +0.000 (+0.000 to +0.000) |" in shown
    assert "within what the choice of patients explains" in shown and "No metrics differ." in shown
    failed = run("python", "tools/compare.py", "HEAD", "no-such-thing", cwd=small_clone, fails=True)
    assert failed.stderr.startswith("error: expected a commit or an experiment") and "Traceback" not in failed.stderr
