"""Figures and curves of a cohort against scikit-learn and the definitions, on random and on degenerate inputs."""

import json

import numpy as np
import pytest
import sklearn.metrics as sk
from scipy.stats import binom
from scored import CLASSES, one_hot, scored

from brain_tumor.metrics import curves
from brain_tumor.metrics.bootstrap import group_draws
from brain_tumor.metrics.reliability import expected_calibration_error, reliability_table
from brain_tumor.metrics.scores import cohort_metrics, tumour_scores, tumour_side, tumour_type_scores


def leaves(value, prefix=()):
    if isinstance(value, dict):
        for key, inner in value.items():
            assert type(key) is str
            yield from leaves(inner, (*prefix, key))
    else:
        yield prefix, value


def binned_error(values: np.ndarray, labels: list[str], predicted: np.ndarray) -> float:
    """Expected calibration error over 15 bins, image by image."""
    bins: dict[int, list[tuple[float, bool]]] = {}
    for row, label, guess in zip(values.astype(np.float64), labels, predicted, strict=True):
        bins.setdefault(int(np.ceil(row.max() * 15)), []).append((row.max(), label == guess))
    gaps = [abs(sum(c for c, _ in part) - sum(ok for _, ok in part)) for part in bins.values()]
    return sum(gaps) / len(labels)


@pytest.mark.parametrize("seed", range(5))
def test_metrics_agree_with_scikit_learn(seed):
    labels, values = scored(seed)
    got = cohort_metrics(labels, values, CLASSES, min_class_images=1)

    predicted = np.array(CLASSES)[values.argmax(axis=1)]
    macro = {"average": "macro", "zero_division": 0}
    normalised = values.astype(np.float64) / values.astype(np.float64).sum(axis=1, keepdims=True)
    expected = {
        "n": len(labels),
        "accuracy": sk.accuracy_score(labels, predicted),
        "balanced_accuracy": sk.balanced_accuracy_score(labels, predicted),
        "macro_precision": sk.precision_score(labels, predicted, **macro),
        "macro_recall": sk.recall_score(labels, predicted, **macro),
        "macro_f1": sk.f1_score(labels, predicted, **macro),
        "macro_roc_auc": sk.roc_auc_score(labels, normalised, multi_class="ovr", labels=CLASSES),
        "macro_average_precision": sk.average_precision_score(one_hot(labels), values, average="macro"),
        "weighted_precision": sk.precision_score(labels, predicted, average="weighted", zero_division=0),
        "weighted_recall": sk.recall_score(labels, predicted, average="weighted", zero_division=0),
        "weighted_f1": sk.f1_score(labels, predicted, average="weighted", zero_division=0),
        "mcc": sk.matthews_corrcoef(labels, predicted),
        "cohen_kappa": sk.cohen_kappa_score(labels, predicted),
        "log_loss": sk.log_loss(labels, normalised, labels=CLASSES),
        "brier": sk.brier_score_loss(labels, normalised, labels=CLASSES, scale_by_half=False),
        "ece": binned_error(values, labels, predicted),
    }
    report = sk.classification_report(labels, predicted, output_dict=True, zero_division=0)
    for name in CLASSES:
        expected[f"n_{name}"] = labels.count(name)
        figures = {"precision": "precision", "recall": "recall", "f1": "f1-score"}
        truth, score = np.array(labels) == name, values[:, CLASSES.index(name)]
        per_class = {k: report[name][r] for k, r in figures.items()}
        per_class["specificity"] = sk.recall_score(~truth, predicted != name)
        per_class |= {"roc_auc": sk.roc_auc_score(truth, score)}
        per_class |= {"average_precision": sk.average_precision_score(truth, score)}
        assert got["per_class"][name] == pytest.approx(per_class, abs=1e-6)
    confusion = got["confusion"]
    del got["per_class"], got["confusion"]
    assert got == pytest.approx(expected, abs=1e-6)
    for actual in CLASSES:
        for guess in CLASSES:
            pairs = sum(a == actual and p == guess for a, p in zip(labels, predicted, strict=True))
            assert confusion[actual][guess] == pairs


def test_class_absent_from_cohort_has_no_key_but_its_predictions_count_as_errors():
    labels = ["ant", "ant", "ant", "bee"]
    values = one_hot(["ant", "ant", "dog", "bee"])
    got = cohort_metrics(labels, values, CLASSES, min_class_images=1)

    assert not {key for path, _ in leaves(got) for key in path} & {"cat", "dog", "n_cat", "n_dog"}
    assert not {"balanced_accuracy", "macro_precision", "macro_recall", "macro_f1"} & set(got)
    assert (got["accuracy"], got["per_class"]["ant"]["recall"]) == (0.75, pytest.approx(2 / 3, abs=1e-6))
    assert got["confusion"] == {"ant": {"ant": 2, "bee": 0}, "bee": {"ant": 0, "bee": 1}}
    counts = curves.confusion_counts(labels, values, CLASSES)
    assert counts.index.tolist() == ["ant", "bee"]
    assert counts.loc["ant"].to_dict() == {"ant": 2, "bee": 0, "cat": 0, "dog": 1}


def test_averages_over_classes_need_enough_images_of_every_class():
    labels = [name for name in CLASSES for _ in range(20)]
    averages = {"balanced_accuracy", "macro_precision", "macro_recall", "macro_f1", "macro_roc_auc"}
    assert averages <= set(cohort_metrics(labels, one_hot(labels), CLASSES))
    assert averages.isdisjoint(cohort_metrics(labels[1:], one_hot(labels[1:]), CLASSES))


def test_perfect_predictions():
    labels = [name for name in CLASSES for _ in range(25)]
    got = cohort_metrics(labels, one_hot(labels), CLASSES)
    for score in ("accuracy", "macro_f1", "mcc", "cohen_kappa", "macro_roc_auc", "macro_average_precision"):
        assert got[score] == 1.0
    assert got["brier"] == got["ece"] == 0.0
    assert set(got["per_class"]["cat"].values()) == {1.0}
    assert json.dumps(got["log_loss"]) == "0.0"  # not "-0.0"


def test_constant_prediction_has_zero_precision_for_the_others_and_a_bounded_log_loss():
    labels = ["ant"] * 3 + ["bee"]
    got = cohort_metrics(labels, one_hot(["ant"] * 4), CLASSES)
    bee = {"precision": 0.0, "recall": 0.0, "specificity": 1.0, "f1": 0.0, "roc_auc": 0.5, "average_precision": 0.25}
    assert got["per_class"]["bee"] == bee
    assert (got["per_class"]["ant"]["precision"], got["per_class"]["ant"]["specificity"]) == (0.75, 0.0)
    assert got["mcc"] == got["cohen_kappa"] == 0.0
    assert (got["brier"], got["ece"]) == (0.5, 0.25)  # a quarter of the images are wrong, and sure to be right
    assert got["log_loss"] == pytest.approx(-np.log(2.0**-52) / 4, abs=1e-6)


def test_one_image():
    got = cohort_metrics(["bee"], np.array([[0.2, 0.5, 0.2, 0.1]]), CLASSES)
    assert got == {
        "n": 1,
        "n_bee": 1,
        "accuracy": 1.0,
        "weighted_precision": 1.0,
        "weighted_recall": 1.0,
        "weighted_f1": 1.0,
        "log_loss": round(np.log(2), 6),
        "brier": 0.34,
        "ece": 0.5,
        "per_class": {"bee": {"precision": 1.0, "recall": 1.0, "f1": 1.0}},
        "confusion": {"bee": {"bee": 1}},
    }


@pytest.mark.parametrize("labels", [scored(0)[0], ["ant"] * 5, ["cat", "dog"]])
def test_metrics_are_nested_numbers_that_json_takes(labels):
    _, values = scored(1, n=len(labels))
    got = cohort_metrics(np.array(labels), values, CLASSES)
    assert all(type(value) in (int, float) for _, value in leaves(got))
    assert json.loads(json.dumps(got, allow_nan=False)) == got


@pytest.mark.parametrize(
    ("labels", "values"),
    [
        ([], np.empty((0, 4))),
        (["ant"], np.full((1, 3), 0.25)),
        (["ant", "bee"], np.full((1, 4), 0.25)),
        (["wasp"], np.full((1, 4), 0.25)),
        (["ant"], np.full((1, 4), np.nan)),
    ],
)
def test_inputs_that_do_not_fit_are_refused(labels, values):
    with pytest.raises(ValueError, match="expected"):
        cohort_metrics(labels, values, CLASSES)


def test_confusion_rows_name_the_most_probable_class_of_every_image():
    rows = curves.confusion_rows(["dog", "ant"], np.array([[0.1, 0.2, 0.6, 0.1], [0.7, 0.1, 0.1, 0.1]]), CLASSES)
    assert rows.to_csv(index=False, lineterminator="\n") == "actual,predicted\ndog,cat\nant,ant\n"


@pytest.mark.parametrize("seed", range(3))
def test_roc_curves_and_areas(seed):
    labels, values = scored(seed)
    found = curves.roc_curves(labels, values, CLASSES, points=201)
    areas = curves.roc_areas(labels, values, CLASSES)
    assert found.columns.tolist() == ["fpr", *CLASSES]
    assert found["fpr"].tolist() == pytest.approx(np.linspace(0, 1, 201))
    for i, name in enumerate(CLASSES):
        positive = np.array(labels) == name
        fpr, tpr, _ = sk.roc_curve(positive, values[:, i], drop_intermediate=False)
        assert found[name].to_numpy() == pytest.approx(np.interp(np.linspace(0, 1, 201), fpr, tpr), abs=1e-6)
        # The probability that an image of the class is scored above another (Mann-Whitney), ties by half.
        above = values[positive, i][:, None] - values[~positive, i][None]
        assert areas[name] == pytest.approx(((above > 0) + 0.5 * (above == 0)).mean(), abs=1e-6)
        assert areas[name] == pytest.approx(np.trapezoid(found[name], found["fpr"]), abs=0.01)


def test_roc_leaves_out_classes_without_images_or_without_others():
    _, values = scored(0, n=4)
    assert curves.roc_curves(["ant", "bee", "bee", "ant"], values, CLASSES).columns.tolist() == ["fpr", "ant", "bee"]
    assert curves.roc_areas(["ant"] * 4, values, CLASSES) == {}


def test_intervals_stand_beside_their_scores():
    random = np.random.default_rng(5)
    labels = np.repeat(["a", "b"], 60)
    values = random.dirichlet([1, 1], 120)
    groups = [f"p{k // 6}" for k in range(120)]
    figures = cohort_metrics(labels, values, ["a", "b"], groups=groups)
    for score in ("accuracy", "balanced_accuracy", "macro_f1", "mcc"):
        assert figures[f"{score}_ci_low"] < figures[score] < figures[f"{score}_ci_high"]
    few = cohort_metrics(labels[:70], values[:70], ["a", "b"], groups=groups[:70])
    assert "accuracy_ci_low" in few and "macro_f1_ci_low" not in few


def test_tumour_against_none():
    classes = ["glioma", "healthy", "pituitary"]
    labels, values = scored(3, classes=classes)
    got = cohort_metrics(labels, values, classes, healthy="healthy")["tumour"]
    truth, called = np.array(labels) != "healthy", values.argmax(axis=1) != 1
    expected = {
        "n": truth.sum(),
        "n_healthy": (~truth).sum(),
        "sensitivity": sk.recall_score(truth, called),
        "specificity": sk.recall_score(~truth, ~called),
        "precision": sk.precision_score(truth, called),
        "f1": sk.f1_score(truth, called),
        "roc_auc": sk.roc_auc_score(truth, -values[:, 1]),
    }
    assert got == pytest.approx(expected, abs=1e-6)
    assert "tumour" not in cohort_metrics(labels, values, classes, healthy="no such class")
    ill = [i for i, label in enumerate(labels) if label != "healthy"]
    assert "tumour" not in cohort_metrics([labels[i] for i in ill], values[ill], classes, healthy="healthy")


KINDS = ["glioma", "healthy", "meningioma", "pituitary"]


def partly_labelled(seed: int, n: int = 400) -> tuple[list[str], list[str], np.ndarray]:
    """True classes, labels most of which name several of them, some with the healthy one, and probabilities."""
    true, values = scored(seed, n=n, classes=tuple(KINDS))
    random, labels = np.random.default_rng(seed), []
    for name in true:
        others = {kind for kind in KINDS if random.random() < 0.4}
        label = "|".join(sorted({name} | others)) if random.random() < 0.7 else name
        labels.append(label)
    return true, labels, values


@pytest.mark.parametrize(
    ("label", "side"),
    [("healthy", "healthy"), ("glioma", "tumour"), ("glioma|pituitary", "tumour"), ("glioma|healthy", "")],
)
def test_a_partial_label_says_tumour_or_healthy_or_neither(label, side):
    assert tumour_side(label, "healthy") == side


@pytest.mark.parametrize("seed", range(3))
def test_tumour_against_none_where_labels_are_partial(seed):
    """Images that may be both are left out; all others are known to be one of the two."""
    true, labels, values = partly_labelled(seed)
    known = np.array([label == "healthy" or "healthy" not in label for label in labels])
    assert (~known).sum() > 20 and sum("|" in label for label in np.array(labels)[known]) > 20
    truth = (np.array(true) != "healthy")[known]
    called, score = values.argmax(axis=1)[known] != 1, 1 - values[known, 1].astype(np.float64)
    groups = np.arange(len(labels)) // 3
    got = tumour_scores(labels, values, KINDS, "healthy", 20, groups)
    assert (got["n"], got["n_healthy"]) == (truth.sum(), (~truth).sum())
    assert got["sensitivity"] == pytest.approx(sk.recall_score(truth, called), abs=1e-6)
    assert got["specificity"] == pytest.approx(sk.recall_score(~truth, ~called), abs=1e-6)
    assert got["precision"] == pytest.approx(sk.precision_score(truth, called), abs=1e-6)
    assert got["f1"] == pytest.approx(sk.f1_score(truth, called), abs=1e-6)
    assert got["roc_auc"] == pytest.approx(sk.roc_auc_score(truth, score), abs=1e-6)
    for name in ("sensitivity", "specificity", "roc_auc"):
        assert got[f"{name}_ci_low"] < got[name] < got[f"{name}_ci_high"]
    # Neither which kinds a label names nor the images that are left out make a difference.
    plain = np.where(truth, "glioma", "healthy")
    assert tumour_scores(plain, values[known], KINDS, "healthy", 20, groups[known]) == got
    without = {name: value for name, value in got.items() if "_ci_" not in name}
    assert tumour_scores(labels, values, KINDS, "healthy", 20) == without
    assert tumour_scores(labels, values, KINDS, "healthy", int((~truth).sum())) == without
    assert tumour_scores(labels, values, KINDS, "healthy", int((~truth).sum()) + 1) == {}
    assert tumour_scores(["glioma|healthy"] * len(labels), values, KINDS, "healthy", 0) == {}


def test_kinds_of_tumour_are_told_apart_on_tumours_alone():
    labels, values = scored(0, n=500, classes=tuple(KINDS))
    groups = np.array([f"g{k // 4}" for k in range(500)])
    got = tumour_type_scores(labels, values, KINDS, "healthy", 20, groups)
    rows = np.array(labels) != "healthy"
    actual, called = np.array(labels)[rows], np.array(KINDS)[values.argmax(axis=1)][rows]
    options = {"labels": ["glioma", "meningioma", "pituitary"], "average": "macro"}
    assert (called == "healthy").any()  # missed tumours count
    assert got["n"] == rows.sum()
    assert got["macro_f1"] == pytest.approx(sk.f1_score(actual, called, **options), abs=1e-6)
    codes, parts = group_draws(groups[rows])
    draws = np.concatenate(list(parts))
    weights = draws[:, codes].astype(float)
    drawn = np.mean(
        [
            2
            * weights
            @ ((actual == kind) & (called == kind))
            / (weights @ (actual == kind) + weights @ (called == kind))
            for kind in options["labels"]
        ],
        axis=0,
    )
    some = [sk.f1_score(actual, called, sample_weight=counts[codes], **options) for counts in draws[:20]]
    assert drawn[:20] == pytest.approx(some)
    bounds = [got["macro_f1_ci_low"], got["macro_f1_ci_high"]]
    assert bounds == pytest.approx(np.percentile(drawn, [2.5, 97.5]), abs=1e-6)
    assert cohort_metrics(labels, values, KINDS, 20, groups, healthy="healthy")["tumour_types"] == got
    assert tumour_type_scores(labels, values, KINDS, "healthy", 20) == {"n": got["n"], "macro_f1": got["macro_f1"]}


def test_kinds_of_tumour_need_enough_images_of_each():
    labels, values = scored(2, n=500, classes=tuple(KINDS))
    fewest = min(labels.count(name) for name in KINDS if name != "healthy")
    assert tumour_type_scores(labels, values, KINDS, "healthy", fewest)
    assert tumour_type_scores(labels, values, KINDS, "healthy", fewest + 1) == {}
    assert tumour_type_scores(["healthy"] * 500, values, KINDS, "healthy", 1) == {}
    # The healthy class needs none.
    ill = [i for i, label in enumerate(labels) if label != "healthy"]
    part = [labels[i] for i in ill], values[ill]
    assert tumour_type_scores(*part, KINDS, "healthy", 20) == tumour_type_scores(labels, values, KINDS, "healthy", 20)
    assert "tumour_types" not in cohort_metrics(labels, values, KINDS, healthy="no such class")


def test_patients_are_judged_by_the_majority_of_their_images():
    labels = ["ant", "ant", "ant", "bee", "bee", "cat", "ant"]
    values = one_hot(["ant", "bee", "ant", "bee", "cat", "ant", "dog"])
    values[3:5] = [[0, 0.9, 0.1, 0], [0.3, 0.1, 0.6, 0]]  # one vote each: bee has the larger mean
    patients = ["p", "p", "p", "q", "q", "r", ""]
    got = cohort_metrics(labels, values, CLASSES, patients=patients)["patients"]
    assert got == {
        "n": 3,
        "accuracy": 0.666667,
        "accuracy_ci_low": 0.0,  # of the 27 ways to draw three, one takes r alone and eight never do
        "accuracy_ci_high": 1.0,
        "ant": {"n": 1, "recall": 1.0},
        "bee": {"n": 1, "recall": 1.0},
        "cat": {"n": 1, "recall": 0.0},
    }
    assert "patients" not in cohort_metrics(labels, values, CLASSES, patients=[""] * 7)


def test_the_interval_of_patients_is_over_patients():
    """Each is right or wrong as a whole: what a draw of 80 gets right is a binomial number."""
    right = np.arange(80) >= 24
    sizes = np.random.default_rng(0).integers(1, 9, 80)
    patients = np.repeat([f"p{k}" for k in range(80)], sizes)
    values = one_hot(list(np.repeat(np.where(right, "ant", "bee"), sizes)))
    got = cohort_metrics(["ant"] * len(values), values, CLASSES, patients=patients)["patients"]
    assert (got["n"], got["accuracy"]) == (80, 0.7)
    expected = binom(80, 0.7).ppf([0.025, 0.975]) / 80
    assert [got["accuracy_ci_low"], got["accuracy_ci_high"]] == pytest.approx(expected, abs=1 / 80)


@pytest.mark.parametrize("seed", range(3))
def test_precision_recall_curves(seed):
    labels, values = scored(seed)
    found = curves.precision_recall_curves(labels, values, CLASSES)
    for i, name in enumerate(CLASSES):
        precision, recall, _ = sk.precision_recall_curve(np.array(labels) == name, values[:, i])
        for at, height in zip(found["recall"], found[name], strict=True):
            assert height == pytest.approx(precision[:-1][recall[:-1] >= at - 1e-9].max(), abs=1e-6)
        area = sk.average_precision_score(np.array(labels) == name, values[:, i])
        assert curves.average_precisions(labels, values, CLASSES)[name] == pytest.approx(area, abs=1e-6)


def test_honest_probabilities_are_reliable_and_sharpened_ones_are_not():
    rng = np.random.default_rng(0)
    honest = rng.dirichlet([0.5] * 4, 40_000)
    actual = (honest.cumsum(axis=1) < rng.random(len(honest))[:, None]).sum(axis=1).clip(max=3)
    assert expected_calibration_error(honest, actual) < 0.01
    table = reliability_table(honest, actual)
    assert table["n"].sum() == len(honest)
    many = table[table["n"] > 500]
    np.testing.assert_allclose(many["confidence"], many["accuracy"], atol=0.03)
    sharpened = honest**3 / (honest**3).sum(axis=1, keepdims=True)
    gap = sharpened.max(axis=1).mean() - (sharpened.argmax(axis=1) == actual).mean()  # over-confident in every bin
    assert expected_calibration_error(sharpened, actual) == pytest.approx(gap, abs=0.005)
