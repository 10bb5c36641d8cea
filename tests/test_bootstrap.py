"""Intervals over patient groups, against a plain bootstrap with scikit-learn."""

import numpy as np
import pytest
from interval_coverage import simulated_coverage
from sklearn.metrics import accuracy_score, balanced_accuracy_score, f1_score, matthews_corrcoef

from brain_tumor.metrics.bootstrap import interval, mean_interval


def clustered(seed: int, patients: int = 60) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Images of patients: one class each, and some patients that a network mostly gets wrong."""
    random = np.random.default_rng(seed)
    groups = np.repeat(np.arange(patients), random.integers(1, 15, patients))
    actual = random.integers(0, 3, patients)[groups]
    right = random.random(len(groups)) < random.beta(2, 0.7, patients)[groups]
    return actual, np.where(right, actual, (actual + 1) % 3), groups


def plain(actual, predicted, groups, resamples: int) -> dict[str, tuple[float, float]]:
    random = np.random.default_rng(99)
    members = [np.flatnonzero(groups == group) for group in np.unique(groups)]
    scores = []
    for _ in range(resamples):
        drawn = np.concatenate([members[i] for i in random.integers(0, len(members), len(members))])
        truth, called = actual[drawn], predicted[drawn]
        scores.append(
            [
                accuracy_score(truth, called),
                balanced_accuracy_score(truth, called),
                f1_score(truth, called, average="macro"),
                matthews_corrcoef(truth, called),
            ]
        )
    low, high = np.percentile(scores, [2.5, 97.5], axis=0)
    names = ("accuracy", "balanced_accuracy", "macro_f1", "mcc")
    return {name: (low[i], high[i]) for i, name in enumerate(names)}


@pytest.mark.parametrize("seed", range(3))
def test_it_agrees_with_a_plain_bootstrap(seed):
    actual, predicted, groups = clustered(seed)
    ours = interval(actual, predicted, groups, 3)
    expected = plain(actual, predicted, groups, 1000)
    for name, bounds in expected.items():
        np.testing.assert_allclose(ours[name], bounds, atol=0.012, err_msg=name)


def test_an_interval_over_images_is_too_narrow():
    actual, predicted, groups = clustered(7)
    widths = [np.diff(interval(actual, predicted, unit, 3)["macro_f1"])[0] for unit in (groups, np.arange(len(groups)))]
    assert widths[0] > 1.3 * widths[1]


def test_one_group_has_no_spread_and_a_perfect_score_none_either():
    actual, predicted, groups = clustered(0)
    low, high = interval(actual, predicted, np.zeros(len(groups)), 3)["macro_f1"]
    assert low == high == pytest.approx(f1_score(actual, predicted, average="macro"))
    assert interval(actual, actual, groups, 3)["macro_f1"] == (1.0, 1.0)


def test_it_repeats():
    assert interval(*clustered(1), 3) == interval(*clustered(1), 3)


def test_the_interval_of_a_mean_is_that_of_the_accuracy():
    actual, predicted, groups = clustered(4)
    assert mean_interval(actual == predicted, groups) == pytest.approx(
        interval(actual, predicted, groups, 3)["accuracy"]
    )


@pytest.mark.slow
def test_intervals_over_groups_cover_and_intervals_over_images_do_not():
    """A shorter run of what docs/evaluation.md shows; seeded, so it gives the same every time."""
    found = simulated_coverage(repetitions=200, resamples=300)
    assert 0.92 <= found["groups"]["accuracy"] <= 0.975
    assert 0.92 <= found["groups"]["macro_f1"] <= 0.975
    assert found["images"]["accuracy"] < 0.85 and found["images"]["macro_f1"] < 0.85
