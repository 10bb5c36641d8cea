"""Prediction sets, refusals and their figures, against planted truth and per-class quantiles."""

import numpy as np
import pandas as pd
import pytest

from brain_tumor.evaluation.decisions import answered, decide, decision_scores
from brain_tumor.exported.prediction_sets import conformal_thresholds, prediction_sets
from brain_tumor.metrics.selective import abstention_threshold, risk_coverage, risk_coverage_area


def drawn(n: int, seed: int, classes: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities, and classes that were drawn from them."""
    rng = np.random.default_rng(seed)
    p = rng.dirichlet([0.4] * classes, n)
    return p, (p.cumsum(axis=1) < rng.random(n)[:, None]).sum(axis=1).clip(max=classes - 1)


@pytest.mark.parametrize("alpha", [0.1, 0.05])
def test_thresholds_are_quantiles_of_each_class(alpha):
    p, actual = drawn(500, 0)
    thresholds = conformal_thresholds(p, actual, alpha)
    for i in range(3):
        scores = 1 - p[actual == i, i]
        level = np.ceil((len(scores) + 1) * (1 - alpha)) / len(scores)
        assert 1 - thresholds[i] == pytest.approx(np.quantile(scores, level, method="inverted_cdf"))


def test_sets_keep_their_promise_for_each_class_even_where_probabilities_lie():
    rng = np.random.default_rng(1)
    covered = []
    for seed in range(60):
        p, actual = drawn(1200, seed)
        p = p ** np.array([3, 1, 0.3])  # neither calibrated nor fair to the classes
        p /= p.sum(axis=1, keepdims=True)
        first = rng.random(len(p)) < 0.5
        sets = prediction_sets(p[~first], conformal_thresholds(p[first], actual[first], 0.1))
        held = sets[np.arange(len(sets)), actual[~first]]
        covered.append([held[actual[~first] == i].mean() for i in range(3)])
    np.testing.assert_allclose(np.mean(covered, axis=0), 0.9, atol=0.01)


def test_a_class_with_few_images_is_in_every_set():
    p, _ = drawn(12, 2)
    actual = np.array([0] * 8 + [1] * 4)  # nine images at least for 90 %
    thresholds = conformal_thresholds(p, actual, 0.1)
    assert (thresholds == 0).all()
    assert prediction_sets(p, thresholds).all()


def test_risk_by_coverage_image_by_image():
    rng = np.random.default_rng(3)
    confidence = rng.random(200).round(2)  # with ties
    correct = rng.random(200) < confidence
    curve = risk_coverage(confidence, correct)
    assert curve["threshold"].tolist() == sorted(set(confidence), reverse=True)
    for row in curve.itertuples():
        answered = confidence >= row.threshold
        assert (row.coverage, row.risk) == (answered.mean(), pytest.approx((~correct[answered]).mean()))
    assert curve["risk"].iloc[-1] == pytest.approx((~correct).mean())


def test_area_of_a_perfect_order_and_of_none():
    correct = np.array([True] * 90 + [False] * 10)
    best = risk_coverage_area(risk_coverage(np.linspace(1, 0, 100), correct))
    assert best == pytest.approx(np.mean([max(k - 90, 0) / k for k in range(1, 101)]))
    assert risk_coverage_area(risk_coverage(np.ones(100), correct)) == pytest.approx(0.1)


def test_threshold_keeps_the_target_where_it_can_be_kept():
    confidence = np.array([0.9, 0.8, 0.7, 0.6, 0.5, 0.4])
    correct = np.array([True, True, False, True, True, False])
    assert abstention_threshold(confidence, correct, 0.2) == 0.5
    assert abstention_threshold(confidence, correct, 0.0) == 0.8
    assert abstention_threshold(confidence, ~correct, 0.1) == np.inf
    assert abstention_threshold(confidence, np.ones(6, bool), 0.01) == 0.4


def frames(seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Test and validation images of two models, the second of which is always twice as sure as it should be."""
    names, tables = ["ant", "bee", "cat"], []
    for fold in (0, 1):
        p, actual = drawn(1600, seed + fold)
        p = p ** (1 + fold) / (p ** (1 + fold)).sum(axis=1, keepdims=True)
        table = pd.DataFrame(p, columns=[f"p_{name}" for name in names])
        table = table.assign(label=np.array(names)[actual], model_fold=fold, group=np.arange(len(p)) // 4)
        tables.append(table)
    whole = pd.concat(tables, ignore_index=True)
    validation = whole.index % 2 == 1
    return whole[~validation], whole[validation]


def test_each_image_is_judged_by_the_validation_of_its_own_model():
    test, validation = frames(10)
    both = decide(test, validation, 0.1)
    assert both.index.equals(test.index)
    for fold in (0, 1):
        own = decide(test[test["model_fold"] == fold], validation[validation["model_fold"] == fold], 0.1)
        pd.testing.assert_frame_equal(own, both.loc[own.index])


def test_what_is_answered_does_not_depend_on_the_labels():
    test, validation = frames(12)
    expected = decide(test, validation, 0.1)["answered"].to_numpy()
    assert 0 < expected.mean() < 1
    assert answered(test, validation, 0.1).tolist() == expected.tolist()
    for labels in ("ant|bee", "no such class", ""):
        assert answered(test.assign(label=labels), validation, 0.1).tolist() == expected.tolist()
    shuffled = test.sample(frac=1, random_state=0)
    assert answered(shuffled, validation, 0.1).tolist() == decide(shuffled, validation, 0.1)["answered"].tolist()
    # Of each model the least sure image that is answered is as sure as its validation images ask for.
    p = test[["p_ant", "p_bee", "p_cat"]].to_numpy()
    for fold in (0, 1):
        seen = validation[validation["model_fold"] == fold]
        q = seen[["p_ant", "p_bee", "p_cat"]].to_numpy()
        right = np.array(["ant", "bee", "cat"])[q.argmax(axis=1)] == seen["label"]
        own = (test["model_fold"] == fold).to_numpy()
        least = abstention_threshold(q.max(axis=1), right.to_numpy(), 0.1)
        assert (expected[own] == (p[own].max(axis=1) >= least)).all()


def test_figures_of_decisions():
    test, validation = frames(20)
    figures = decision_scores(decide(test, validation, 0.1), ["ant", "bee", "cat"], 0.1)
    selective, sets = figures["selective"], figures["conformal"]["coverage_90"]
    assert selective["error_ci_low"] < selective["error"] < selective["error_ci_high"]
    assert selective["error"] == pytest.approx(0.1, abs=0.03)
    assert 0 < selective["coverage"] < 1
    assert sets["coverage_ci_low"] < 0.9 < sets["coverage_ci_high"]
    assert all(value == pytest.approx(0.9, abs=0.04) for value in sets["per_class"].values())
    assert figures["conformal"]["coverage_95"]["mean_size"] > sets["mean_size"] > 1


def test_without_groups_there_are_no_intervals_and_without_answers_no_error():
    test, validation = frames(30)
    figures = decision_scores(decide(test.drop(columns="group"), validation, 0.1), ["ant", "bee", "cat"], 0.1)
    assert not [key for key in figures["selective"] if "_ci_" in key]
    wrong = validation.assign(label=np.where(validation["p_ant"] > 0.5, "bee", "ant"))
    silent = decision_scores(decide(test, wrong, 1e-6), ["ant", "bee", "cat"], 1e-6)["selective"]
    assert silent["coverage"] == 0 and "error" not in silent
