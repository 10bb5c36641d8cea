"""Figures and curves of one cohort, from labels and probabilities.

Figures are rounded to 6 decimals. Network outputs are float32 (about 7 digits), and the order in which a
processor sums them moves the last bits of a float64: rounding drops only digits that mean nothing, so that
the same predictions give the same bytes everywhere and a diff of two runs shows real changes.

Everywhere below, `labels` is a sequence of n class names, `probabilities` is (n, c) float with a column per
class, and `classes` names the c columns. The predicted class is the most probable one, the first on a tie.
All functions raise ValueError for shapes that do not fit, no image, a label that is not a class, or
probabilities that are not finite.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support, roc_auc_score, roc_curve

from brain_tumor.evaluation.bootstrap import interval

_DECIMALS = 6


def cohort_metrics(
    labels: Sequence[str],
    probabilities: np.ndarray,
    classes: Sequence[str],
    min_class_images: int = 20,
    groups: Sequence[str] | None = None,
) -> dict:
    """Scores of one cohort, as nested objects of numbers that DVC and JSON take as they are.

    A class without an image in the cohort has no key anywhere, `confusion` included: images predicted as such
    a class are what a row of `confusion` lacks to `n_<class>` (`confusion_counts` shows them).

    Args:
        labels: true classes.
        probabilities: probability of each class.
        classes: names of the columns.
        min_class_images: images of every class that averages over classes ask for; with fewer, one image
            would move them by several points.
        groups: patient group of each image; with it, the main scores carry 95 % intervals of a bootstrap over
            groups (see `bootstrap.interval`) as <score>_ci_low and <score>_ci_high.

    Returns:
        n, n_<class>, accuracy; balanced_accuracy, macro_precision, macro_recall, macro_f1 where every class has
        `min_class_images` images; log_loss; per_class.<class>.{precision,recall,f1}; confusion.<actual>.<predicted>.
        Precision and F1 of a class that is never predicted are 0. log_loss is the mean negative natural logarithm
        of the probability of the true class, which counts as no less than the float64 epsilon (at most 36.04).
    """
    actual, predicted, probabilities = _indices(labels, probabilities, classes)
    counts = np.bincount(actual, minlength=len(classes))
    present = [i for i in range(len(classes)) if counts[i]]
    precision, recall, f1, _ = precision_recall_fscore_support(
        actual, predicted, labels=range(len(classes)), zero_division=0
    )
    # scikit-learn's log_loss warns of every float32 row, whose sum is not 1 to the precision of a float64.
    likelihood = probabilities[np.arange(len(actual)), actual].clip(np.finfo(np.float64).eps, 1)

    figures = {"n": len(actual)}
    figures |= {f"n_{classes[i]}": int(counts[i]) for i in present}
    figures["accuracy"] = _rounded(np.mean(actual == predicted))
    if counts.min() >= max(min_class_images, 1):
        figures["balanced_accuracy"] = _rounded(recall.mean())  # by its definition, the mean recall
        figures["macro_precision"] = _rounded(precision.mean())
        figures["macro_recall"] = _rounded(recall.mean())
        figures["macro_f1"] = _rounded(f1.mean())
    if groups is not None:
        for name, bounds in interval(actual, predicted, groups, len(classes)).items():
            if name in figures:
                figures[f"{name}_ci_low"], figures[f"{name}_ci_high"] = map(_rounded, bounds)
    figures["log_loss"] = _rounded(0.0 - np.log(likelihood).mean())
    figures["per_class"] = {
        classes[i]: {"precision": _rounded(precision[i]), "recall": _rounded(recall[i]), "f1": _rounded(f1[i])}
        for i in present
    }
    matrix = confusion_matrix(actual, predicted, labels=range(len(classes)))
    figures["confusion"] = {classes[i]: {classes[j]: int(matrix[i, j]) for j in present} for i in present}
    return figures


def confusion_rows(labels: Sequence[str], probabilities: np.ndarray, classes: Sequence[str]) -> pd.DataFrame:
    """A row per image, in the order given: `actual`, `predicted` (what DVC's `confusion` template counts)."""
    actual, predicted, _ = _indices(labels, probabilities, classes)
    names = np.asarray(classes, dtype=object)
    return pd.DataFrame({"actual": names[actual], "predicted": names[predicted]})


def confusion_counts(labels: Sequence[str], probabilities: np.ndarray, classes: Sequence[str]) -> pd.DataFrame:
    """Images of each actual class (index; only classes present) by predicted class (columns; all classes)."""
    actual, predicted, _ = _indices(labels, probabilities, classes)
    matrix = confusion_matrix(actual, predicted, labels=range(len(classes)))
    table = pd.DataFrame(matrix, index=pd.Index(classes, name="actual"), columns=pd.Index(classes, name="predicted"))
    return table[table.sum(axis=1) > 0]


def roc_curves(
    labels: Sequence[str], probabilities: np.ndarray, classes: Sequence[str], points: int = 101
) -> pd.DataFrame:
    """One-vs-rest ROC curves on one grid of false-positive rates.

    Returns:
        `points` rows: `fpr` from 0 to 1, evenly spaced, and for every class that has both images and others to
        tell them from, a column of true-positive rates, linear between the points of the exact curve; where that
        rises vertically, its upper end.
    """
    grid = np.linspace(0, 1, points)
    curves = {"fpr": grid}
    for name, positive, score in _one_vs_rest(labels, probabilities, classes):
        fpr, tpr, _ = roc_curve(positive, score)
        curves[name] = np.interp(grid, fpr, tpr)
    return pd.DataFrame(curves).round(_DECIMALS)


def roc_areas(labels: Sequence[str], probabilities: np.ndarray, classes: Sequence[str]) -> dict[str, float]:
    """Exact area under the one-vs-rest ROC curve of each class that `roc_curves` has a column for."""
    return {
        name: _rounded(roc_auc_score(positive, score))
        for name, positive, score in _one_vs_rest(labels, probabilities, classes)
    }


def _one_vs_rest(labels, probabilities, classes) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    actual, _, probabilities = _indices(labels, probabilities, classes)
    for i, name in enumerate(classes):
        positive = actual == i
        if positive.any() and not positive.all():
            yield name, positive, probabilities[:, i]


def _indices(labels, probabilities, classes) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Actual and predicted class as (n,) indices into `classes`, and the probabilities as float64."""
    probabilities = np.asarray(probabilities, dtype=np.float64)
    expected = (len(labels), len(classes))
    if probabilities.shape != expected or 0 in expected:
        raise ValueError(f"expected probabilities for {expected} labels and classes, got {probabilities.shape}")
    if not np.isfinite(probabilities).all():
        raise ValueError("expected finite probabilities, got NaN or infinity")
    position = {name: i for i, name in enumerate(classes)}
    unknown = sorted(set(labels) - set(position))
    if unknown:
        raise ValueError(f"expected labels among {list(classes)}, got {unknown}")
    return np.array([position[label] for label in labels]), probabilities.argmax(axis=1), probabilities


def _rounded(value: float) -> float:
    return round(float(value), _DECIMALS)
