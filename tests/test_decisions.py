"""Prediction sets, refusals and their figures, against planted truth, per-class quantiles and plain counts."""

import numpy as np
import pandas as pd
import pytest

from brain_tumor.evaluation.decisions import decide, decision_scores
from brain_tumor.evaluation.thresholds import HeldOut, Targets
from brain_tumor.exported.prediction_sets import conformal_thresholds, prediction_sets
from brain_tumor.exported.states import ANSWER, REFUSED, UNSURE, states
from brain_tumor.metrics.bootstrap import mean_interval
from brain_tumor.metrics.selective import abstention_threshold, risk_coverage, risk_coverage_area
from brain_tumor.networks.calibration import calibrated
from brain_tumor.prediction.tables import SERVED


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


def test_threshold_keeps_the_target_within_every_part_at_once():
    """What is just right for one part may be too low or too high for another one, as errors need not fall."""
    confidence = np.array([0.9, 0.8, 0.7, 0.6, 0.95, 0.85, 0.65])
    correct = np.array([False, True, True, True, True, True, False])
    first = np.arange(7) < 4
    assert abstention_threshold(confidence[first], correct[first], 0.25) == 0.6
    assert abstention_threshold(confidence[~first], correct[~first], 0.25) == 0.85
    # At the higher of the two the only answer within the first part is wrong; above it there is none.
    assert abstention_threshold(confidence, correct, 0.25, [first, ~first]) == 0.95
    assert abstention_threshold(confidence, correct, 0.25) == 0.7
    assert abstention_threshold(confidence, correct, 0.34, [first, ~first]) == 0.6
    assert abstention_threshold(confidence[:4], correct[:4], 0.2, [first[:4]]) == np.inf
    assert abstention_threshold(np.empty(0), np.empty(0, bool), 0.25, [np.empty(0, bool)]) == np.inf


@pytest.mark.parametrize("seed", range(60))
def test_threshold_of_parts_against_a_trial_of_all(seed):
    rng = np.random.default_rng(seed)
    n, target = int(rng.integers(1, 40)), float(rng.choice([0.0, 0.05, 0.1, 0.25, 0.29, 0.5]))
    confidence = rng.random(n).round(int(rng.integers(1, 4)))  # with ties
    correct = rng.random(n) < 0.3 + 0.7 * confidence
    parts = [rng.random(n) < share for share in (0.5, 0.2, 0.0)]

    def kept(threshold: float) -> bool:
        for part in [np.ones(n, bool), *parts]:
            answers = [right for c, right, own in zip(confidence, correct, part, strict=True) if own and c >= threshold]
            if answers and answers.count(False) / len(answers) > target:
                return False
        return True

    expected = min([c for c in confidence if kept(c)], default=np.inf)
    assert abstention_threshold(confidence, correct, target, parts) == expected


# --- states


@pytest.mark.parametrize("seed", range(5))
def test_states_by_a_plain_count(seed):
    rng = np.random.default_rng(seed)
    p = rng.dirichlet([0.4] * 4, 300).round(2)
    least = rng.choice([0.5, 0.7, 0.9, 1.1, np.inf], 4)
    for values, state in zip(p.tolist(), states(p, least), strict=True):
        first, second = sorted(range(4), key=lambda k: -values[k])[:2]
        if values[first] >= least[first]:
            assert state == ANSWER
        elif min(least) < np.inf and values[first] + values[second] >= min(least):
            assert state == UNSURE
        else:
            assert state == REFUSED


def test_edges_of_states():
    # A probability just as large as it must be is answered; so are two of them together.
    assert states(np.array([[0.75, 0.25, 0.0]]), [0.75, 0.9, 0.9]).tolist() == [ANSWER]
    assert states(np.array([[0.25, 0.5, 0.25]]), [0.75, 0.9, 0.9]).tolist() == [UNSURE]
    assert states(np.array([[0.4, 0.34, 0.26]]), [0.75, 0.9, 0.9]).tolist() == [REFUSED]
    # Of two equal ones the first is called.
    tied = np.array([[0.5, 0.5, 0.0]])
    assert states(tied, [0.5, 0.9, 0.9]).tolist() == [ANSWER] and states(tied, [0.9, 0.5, 0.9]).tolist() == [UNSURE]
    assert states(tied[:, ::-1], [0.9, 0.5, 0.9]).tolist() == [ANSWER]
    # A class that is never answered, by itself and among others.
    assert states(np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]), [np.inf, 0.6, 0.6]).tolist() == [UNSURE, ANSWER]
    assert states(np.eye(3), [np.inf] * 3).tolist() == [REFUSED] * 3
    # Where each class is always answered there is nothing else.
    assert states(np.random.default_rng(0).dirichlet([1, 1, 1], 50), [0, 0, 0]).tolist() == [ANSWER] * 50
    assert states(np.empty((0, 3)), [0.5] * 3).tolist() == []


@pytest.mark.parametrize("seed", range(3))
def test_states_follow_their_thresholds_and_not_the_order_of_the_classes(seed):
    rng = np.random.default_rng(seed)
    p, least = rng.dirichlet([0.8] * 4, 400), rng.uniform(0.8, 1, 4)
    order, found = {REFUSED: 0, UNSURE: 1, ANSWER: 2}, states(p, least)
    assert set(found) == set(order)
    for lower in (least - 0.1, least - [0.2, 0, 0, 0]):  # more is said, and nothing is taken back
        assert all(order[after] >= order[before] for before, after in zip(found, states(p, lower), strict=True))
    turned = rng.permutation(4)
    assert states(p[:, turned], least[turned]).tolist() == found.tolist()


# --- decisions

NAMES = ["ant", "bee", "cat"]


def frames(seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Test and validation images of two models, the second of which is always twice as sure as it should be."""
    tables = []
    for fold in (0, 1):
        p, actual = drawn(1600, seed + fold)
        p = p ** (1 + fold) / (p ** (1 + fold)).sum(axis=1, keepdims=True)
        table = pd.DataFrame(p, columns=[f"raw_{name}" for name in NAMES])
        # After the calibration of the network by itself, which decisions have no use for.
        table[[f"p_{name}" for name in NAMES]] = np.random.default_rng(seed).dirichlet([1, 1, 1], len(p))
        label = np.array(NAMES)[actual]
        table = table.assign(label=label, target=label, source="scans", model_fold=fold, group=np.arange(len(p)) // 4)
        tables.append(table)
    whole = pd.concat(tables, ignore_index=True)
    validation = whole.index % 2 == 1
    return whole[~validation], whole[validation]


def held_out_by(validation: pd.DataFrame, error: float = 0.1, miss: float = 0.05, healthy: str = "") -> HeldOut:
    return HeldOut(validation, False, Targets(error, miss, healthy))


def raw(frame: pd.DataFrame) -> np.ndarray:
    return frame[[f"raw_{name}" for name in NAMES]].to_numpy()


def test_each_image_is_judged_by_the_validation_of_its_own_model():
    test, validation = frames(10)
    both = decide(test, held_out_by(validation))
    assert both.index.equals(test.index)
    for fold in (0, 1):
        own = decide(test[test["model_fold"] == fold], held_out_by(validation[validation["model_fold"] == fold]))
        pd.testing.assert_frame_equal(own, both.loc[own.index])


@pytest.mark.parametrize("fold", [0, 1])
def test_where_all_folds_are_run_each_image_is_judged_by_the_other_models(fold):
    test, _ = frames(11)
    decided = decide(test, HeldOut(test, True, Targets(0.1, 0.05, "bee")))
    others = held_out_by(test[test["model_fold"] != fold], healthy="bee").of(1 - fold)
    own = test["model_fold"] == fold
    values = calibrated(raw(test[own]), others.scale, others.biases)
    assert decided.loc[own, "state"].tolist() == states(values, others.confidence).tolist()
    assert decided.loc[own, "confidence"].to_numpy() == pytest.approx(values.max(axis=1), abs=1e-12)
    # What the image itself is, as far as its own fold knows, plays no part.
    other_labels = test.assign(target=test["target"].where(~own, "ant"))
    again = decide(test, HeldOut(other_labels, True, Targets(0.1, 0.05, "bee")))
    pd.testing.assert_frame_equal(again[own], decided[own])


def test_the_network_that_is_served_is_judged_by_all_folds():
    test, validation = frames(13)
    served = validation.assign(model_fold=SERVED)
    both = pd.concat([served, test])
    held_out = HeldOut(test, True, Targets(0.1, 0.05, "bee"))
    found = decide(both, held_out)
    assert found.index.equals(both.index)
    joined = held_out_by(test.assign(model_fold=7), healthy="bee")  # as if they were of one network
    pd.testing.assert_frame_equal(found.loc[served.index], decide(validation.assign(model_fold=7), joined))
    pd.testing.assert_frame_equal(found.loc[test.index], decide(test, held_out))


def test_what_is_answered_does_not_depend_on_the_labels():
    test, validation = frames(12)
    held_out = held_out_by(validation, healthy="bee")
    decided = decide(test, held_out)
    unlabelled = [name for name in decided if name not in ("label", "correct", "likely")]
    assert 0 < (decided["state"] == ANSWER).mean() < 1
    for labels in ("ant|bee", "no such class", ""):
        pd.testing.assert_frame_equal(decide(test.assign(label=labels), held_out)[unlabelled], decided[unlabelled])
    shuffled = test.sample(frac=1, random_state=0)
    pd.testing.assert_frame_equal(decide(shuffled, held_out), decided.loc[shuffled.index])
    pd.testing.assert_frame_equal(decide(test.assign(p_ant=0.1, p_bee=0.2, p_cat=0.7), held_out), decided)


@pytest.mark.parametrize("partial", [False, True])
def test_a_decision_image_by_image(partial):
    test, validation = frames(14)
    if partial:
        test = test.assign(
            label=[{"ant": "ant|cat", "bee": "bee", "cat": "ant|bee|cat"}[name] for name in test["label"]]
        )
    held_out = held_out_by(validation, healthy="bee")
    decided = decide(test, held_out)
    for fold in (0, 1):
        thresholds = held_out.of(fold)
        rows = (test["model_fold"] == fold).to_numpy()
        values = calibrated(raw(test[rows]), thresholds.scale, thresholds.biases)
        for row, p in zip(decided[rows].to_dict("records"), values, strict=True):
            first, second = sorted(range(3), key=lambda k: -p[k])[:2]
            possible = row["label"].split("|")
            assert row["called"] == NAMES[first] and row["confidence"] == pytest.approx(p[first], abs=1e-12)
            assert row["correct"] == (NAMES[first] in possible)
            assert row["likely"] == bool({NAMES[first], NAMES[second]} & set(possible))
            for level in (90, 95):
                expected = [p[k] >= thresholds.sets[level][k] for k in range(3)]
                assert [row[f"set_{level}_{name}"] for name in NAMES] == expected
        assert decided.loc[rows, "state"].tolist() == states(values, thresholds.confidence).tolist()


# --- figures of decisions


def test_figures_of_decisions():
    test, validation = frames(20)
    held_out = held_out_by(validation)
    figures = decision_scores(decide(test, held_out), NAMES, held_out)
    selective, sets = figures["selective"], figures["conformal"]["coverage_90"]
    assert selective["error_ci_low"] < selective["error"] < selective["error_ci_high"]
    assert selective["error"] == pytest.approx(0.1, abs=0.03)
    assert 0 < selective["coverage"] < 1
    assert sets["coverage_ci_low"] < 0.9 < sets["coverage_ci_high"]
    assert all(value == pytest.approx(0.9, abs=0.04) for value in sets["per_class"].values())
    assert figures["conformal"]["coverage_95"]["mean_size"] > sets["mean_size"] > 1
    assert not {"missed", "target_miss"} & set(selective)  # there is no healthy class


@pytest.mark.parametrize("partial", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_figures_agree_with_a_plain_count(seed, partial):
    """Made-up decisions, which need not make sense."""
    rng, n = np.random.default_rng(seed), 400
    known = ["ant", "bee", "cat", *(["ant|cat", "bee|cat", "ant|bee|cat"] if partial else [])]
    decided = pd.DataFrame(
        {
            "label": rng.choice(known, n),
            "group": rng.integers(0, 150, n),
            "called": rng.choice(NAMES, n),
            "confidence": rng.random(n).round(2),
            "correct": rng.random(n) < 0.7,
            "state": rng.choice([ANSWER, UNSURE, REFUSED], n, p=[0.6, 0.3, 0.1]),
            "likely": rng.random(n) < 0.8,
        }
    )
    for name in NAMES:
        decided[f"set_90_{name}"], decided[f"set_95_{name}"] = rng.random((2, n)) < 0.5
    held_out = held_out_by(frames(0)[1], error=0.125, miss=0.0625, healthy="bee")
    found = decision_scores(decided, NAMES, held_out)
    rows = decided.to_dict("records")

    def share(rows: list[dict], hit) -> float:
        return pytest.approx(sum(map(hit, rows)) / len(rows), abs=1e-6)

    def interval(rows: list[dict], hit) -> tuple[float, float]:
        low, high = mean_interval(np.array([hit(row) for row in rows]), np.array([row["group"] for row in rows]))
        return pytest.approx(low, abs=1e-6), pytest.approx(high, abs=1e-6)

    answers = [row for row in rows if row["state"] == ANSWER]
    doubts = [row for row in rows if row["state"] == UNSURE]
    tumours = [row for row in rows if "bee" not in row["label"].split("|")]
    missed = lambda row: row["state"] == ANSWER and row["called"] == "bee"  # noqa: E731
    wrong = lambda row: not row["correct"]  # noqa: E731
    selective = found["selective"]
    assert selective["target_error"] == 0.125 and selective["target_miss"] == 0.0625
    assert selective["coverage"] == share(rows, lambda row: row["state"] == ANSWER)
    assert selective["unsure"] == share(rows, lambda row: row["state"] == UNSURE)
    assert selective["no_answer"] == share(rows, lambda row: row["state"] == REFUSED)
    assert selective["unsure_likely"] == share(doubts, lambda row: row["likely"])
    assert selective["error"] == share(answers, wrong) and selective["missed"] == share(tumours, missed)
    assert (selective["error_ci_low"], selective["error_ci_high"]) == interval(answers, wrong)
    assert (selective["missed_ci_low"], selective["missed_ci_high"]) == interval(tumours, missed)
    curve = risk_coverage(decided["confidence"].to_numpy(), decided["correct"].to_numpy())
    assert selective["risk_coverage_area"] == pytest.approx(risk_coverage_area(curve), abs=1e-6)
    # A set either has the class or not; with partial labels that is not known.
    assert ("conformal" in found) == (not partial)
    for level in () if partial else (90, 95):
        sets = found["conformal"][f"coverage_{level}"]
        covered = lambda row, level=level: row[f"set_{level}_{row['label']}"]  # noqa: E731
        size = lambda row, level=level: sum(row[f"set_{level}_{name}"] for name in NAMES)  # noqa: E731
        assert sets["coverage"] == share(rows, covered) and sets["mean_size"] == share(rows, size)
        assert (sets["coverage_ci_low"], sets["coverage_ci_high"]) == interval(rows, covered)
        assert sets["empty"] == share(rows, lambda row, size=size: size(row) == 0)
        assert sets["single"] == share(rows, lambda row, size=size: size(row) == 1)
        for name in NAMES:
            assert sets["per_class"][name] == share([row for row in rows if row["label"] == name], covered)


@pytest.mark.parametrize("seed", range(3))
def test_the_three_states_are_all_images_and_no_share_is_below_zero(seed):
    test, validation = frames(40 + seed)
    for error in (1e-6, 0.05, 0.1, 0.9):
        held_out = held_out_by(validation, error)
        selective = decision_scores(decide(test, held_out), NAMES, held_out)["selective"]
        shares = [selective[name] for name in ("coverage", "unsure", "no_answer")]
        assert sum(shares) == pytest.approx(1, abs=3e-6)
        assert all(str(share)[0] != "-" for share in shares), "not even as -0.0"


def test_of_two_named_classes_one_is_more_often_right_than_the_first_alone():
    test, validation = frames(50)
    held_out = held_out_by(validation, 0.02)
    decided = decide(test, held_out)
    unsure = decided[decided["state"] == UNSURE]
    named = decision_scores(decided, NAMES, held_out)["selective"]["unsure_likely"]
    # The two are together as probable as one alone must be, and probabilities are right here.
    assert len(unsure) > 200 and named > unsure["correct"].mean() + 0.1
    least = held_out.of(0).confidence.min()
    assert named == pytest.approx(1 - (1 - least) / 2, abs=(1 - least) / 2 + 0.03)


def test_without_groups_there_are_no_intervals_and_without_answers_no_error():
    test, validation = frames(30)
    held_out = held_out_by(validation, healthy="bee")
    figures = decision_scores(decide(test.drop(columns="group"), held_out), NAMES, held_out)
    assert not [key for key in figures["selective"] if "_ci_" in key]
    assert not [key for sets in figures["conformal"].values() for key in sets if "_ci_" in key]
    p = raw(validation)
    silent = held_out_by(validation.assign(target=np.array(NAMES)[p.argmin(axis=1)]), 1e-6, healthy="bee")
    selective = decision_scores(decide(test, silent), NAMES, silent)["selective"]
    assert (selective["coverage"], selective["unsure"], selective["no_answer"], selective["missed"]) == (0, 0, 1, 0)
    assert not {"error", "unsure_likely"} & set(selective)


def test_without_tumours_nothing_is_said_of_missed_ones():
    test, validation = frames(31)
    held_out = held_out_by(validation, healthy="bee")
    for label, stated in (("bee", False), ("ant|bee", False), ("ant", True), ("ant|cat", True)):
        found = decision_scores(decide(test.assign(label=label), held_out), NAMES, held_out)["selective"]
        assert ({"missed", "target_miss"} <= set(found)) == stated and ("missed" in found) == ("target_miss" in found)
