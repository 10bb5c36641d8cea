"""Intervals over patient groups, against a plain bootstrap with scikit-learn."""

import numpy as np
import pytest
from interval_coverage import simulated_coverage
from sklearn.metrics import (
    accuracy_score,
    balanced_accuracy_score,
    f1_score,
    matthews_corrcoef,
    recall_score,
    roc_auc_score,
)

from brain_tumor.metrics.bootstrap import detection_interval, group_draws, interval, mean_interval


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


# --- detection


def detected(seed: int, patients: int = 40, digits: int = 1) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Truth, score with ties, call and group of images of patients, some of whom are hard throughout."""
    random = np.random.default_rng(seed)
    groups = np.repeat(np.arange(patients), random.integers(1, 9, patients))
    truth = (random.random(patients) < 0.6)[groups] ^ (random.random(len(groups)) < 0.1)
    score = truth + random.normal(0, 1, patients)[groups] + random.normal(0, 0.7, len(groups))
    return truth, score.round(digits), score > 0.5, groups


def of_draws(truth, score, called, groups, resamples: int) -> dict[str, np.ndarray]:
    """The figures of each of the draws by scikit-learn, an image weighing as often as its group was drawn."""
    codes, parts = group_draws(groups, resamples)
    draws = np.concatenate(list(parts))
    found = {"sensitivity": [], "specificity": [], "roc_auc": []}
    for counts in draws:
        weights = counts[codes]
        if weights[truth].any():
            found["sensitivity"].append(recall_score(truth, called, sample_weight=weights))
        if weights[~truth].any():
            found["specificity"].append(recall_score(~truth, ~called, sample_weight=weights))
        if weights[truth].any() and weights[~truth].any():
            found["roc_auc"].append(roc_auc_score(truth, score, sample_weight=weights))
    return {name: np.array(values) for name, values in found.items()}


@pytest.mark.parametrize("images", [3, 4_000, 1_100_000])
def test_many_images_are_drawn_in_parts_that_decide_nothing(images):
    groups = np.arange(images) // max(1, images // 300)
    codes, parts = group_draws(groups, resamples=300)
    parts = list(parts)
    assert max(len(part) for part in parts) * images <= max(1_000_000, images)
    number = groups[-1] + 1
    at_once = np.random.default_rng(0).multinomial(number, np.full(number, 1 / number), size=300)
    np.testing.assert_array_equal(np.concatenate(parts), at_once)
    np.testing.assert_array_equal(codes, groups)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("digits", [0, 1, 9])
def test_each_draw_of_a_detection_agrees_with_scikit_learn(seed, digits):
    """Of a single draw both ends of the interval are its score; scores of no digits are mostly ties."""
    case = detected(seed, digits=digits)
    assert (len(np.unique(case[1])) < 12) == (digits == 0)
    expected = of_draws(*case, resamples=1)
    for name, bounds in detection_interval(*case, resamples=1).items():
        assert bounds == pytest.approx([expected[name][0]] * 2, abs=1e-12), name


@pytest.mark.parametrize("seed", range(3))
def test_intervals_of_a_detection_are_those_of_its_draws(seed):
    case = detected(seed)
    expected = of_draws(*case, resamples=100)
    found = detection_interval(*case, resamples=100)
    assert list(found) == list(expected)
    for name, bounds in found.items():
        assert bounds == pytest.approx(np.percentile(expected[name], [2.5, 97.5]), abs=1e-12), name


def test_a_group_is_drawn_as_a_whole_or_not_at_all():
    """Images that repeat within their group say nothing new; on their own they seem to."""
    truth, score, called, _ = detected(3)
    images = len(truth)
    times = 21_000 // images  # so many that the draws are worked off in parts
    once = detection_interval(truth, score, called, np.arange(images))
    repeated = [np.repeat(values, times) for values in (truth, score, called)]
    together = detection_interval(*repeated, np.repeat(np.arange(images), times))
    for name, bounds in once.items():
        assert together[name] == pytest.approx(bounds, abs=1e-12)
    few = [np.repeat(values, 10) for values in (truth, score, called)]
    apart = detection_interval(*few, np.arange(10 * images))
    for name, (low, high) in once.items():
        assert apart[name][1] - apart[name][0] < 0.5 * (high - low)


def test_groups_of_a_detection_may_have_any_names_and_one_has_no_spread():
    truth, score, called, groups = detected(5)
    names = np.array([f"patient {k}" for k in groups], dtype=object)
    assert detection_interval(truth, score, called, names) == detection_interval(truth, score, called, groups)
    alone = detection_interval(truth, score, called, np.zeros(len(truth)))
    assert alone["roc_auc"] == pytest.approx([roc_auc_score(truth, score)] * 2, abs=1e-12)
    assert alone["sensitivity"] == pytest.approx([recall_score(truth, called)] * 2, abs=1e-12)


def test_draws_that_lack_a_side_do_not_count():
    """Five patients, one of them healthy: a third of the draws has no healthy image."""
    truth, score, called, groups = detected(6, patients=5, digits=9)
    truth = groups != 2
    expected = of_draws(truth, score, called, groups, 200)
    assert len(expected["specificity"]) < 150
    found = detection_interval(truth, score, called, groups, resamples=200)
    for name, values in expected.items():
        assert found[name] == pytest.approx(np.percentile(values, [2.5, 97.5]), abs=1e-12), name


@pytest.mark.parametrize("score", [np.zeros(60), np.arange(60) % 2])
def test_scores_that_tell_nothing_or_everything(score):
    truth = np.arange(60) % 2 == 1
    found = detection_interval(truth, score, score > 0.5, np.arange(60) // 4)
    assert found["roc_auc"] == ((1, 1) if score.any() else (0.5, 0.5))
    assert found["sensitivity"] == ((1, 1) if score.any() else (0, 0)) and found["specificity"] == (1, 1)


# --- coverage


@pytest.mark.slow
def test_intervals_over_groups_cover_and_intervals_over_images_do_not():
    """A shorter run of what docs/evaluation.md shows; seeded, so it gives the same every time."""
    found = simulated_coverage(repetitions=200, resamples=300)
    assert 0.92 <= found["groups"]["accuracy"] <= 0.975
    assert 0.92 <= found["groups"]["macro_f1"] <= 0.975
    assert found["images"]["accuracy"] < 0.85 and found["images"]["macro_f1"] < 0.85
