"""Tables behind the plots of one cohort: confusion, one-vs-rest ROC and precision-recall curves."""

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
from sklearn.metrics import average_precision_score, confusion_matrix, precision_recall_curve, roc_auc_score, roc_curve

from brain_tumor.metrics.arrays import as_arrays
from brain_tumor.metrics.rounding import rounded


def confusion_rows(labels: Sequence[str], probabilities: np.ndarray, classes: Sequence[str]) -> pd.DataFrame:
    """A row per image, in the order given: `actual`, `predicted` (what DVC's `confusion` template counts)."""
    actual, predicted, _ = as_arrays(labels, probabilities, classes)
    names = np.asarray(classes, dtype=object)
    return pd.DataFrame({"actual": names[actual], "predicted": names[predicted]})


def confusion_counts(labels: Sequence[str], probabilities: np.ndarray, classes: Sequence[str]) -> pd.DataFrame:
    """Images of each actual class (index; only classes present) by predicted class (columns; all classes)."""
    actual, predicted, _ = as_arrays(labels, probabilities, classes)
    matrix = confusion_matrix(actual, predicted, labels=range(len(classes)))
    table = pd.DataFrame(matrix, index=pd.Index(classes, name="actual"), columns=pd.Index(classes, name="predicted"))
    return table[table.sum(axis=1) > 0]


def roc_curves(
    labels: Sequence[str], probabilities: np.ndarray, classes: Sequence[str], points: int = 101
) -> pd.DataFrame:
    """One-vs-rest ROC curves on one grid of false-positive rates.

    Returns:
        `points` rows: `fpr` from 0 to 1, evenly spaced, and a column of true-positive rates for every class that has
        both positive and negative images: linear between the points of the exact curve, and the upper end where that
        rises vertically.
    """
    grid = np.linspace(0, 1, points)
    curves = {"fpr": grid}
    for name, positive, score in _one_vs_rest(labels, probabilities, classes):
        fpr, tpr, _ = roc_curve(positive, score)
        curves[name] = np.interp(grid, fpr, tpr)
    return pd.DataFrame(curves).round(6)


def precision_recall_curves(
    labels: Sequence[str], probabilities: np.ndarray, classes: Sequence[str], points: int = 101
) -> pd.DataFrame:
    """One-vs-rest precision at a grid of recalls.

    Returns:
        `points` rows: `recall` from 0 to 1, evenly spaced, and a column of precisions for every class as in
        `roc_curves`: the best precision at any threshold that reaches the recall, because such a curve must not be
        interpolated linearly (Davis and Goadrich, ICML 2006).
    """
    grid = np.linspace(0, 1, points)
    curves = {"recall": grid}
    for name, positive, score in _one_vs_rest(labels, probabilities, classes):
        precision, recall, _ = precision_recall_curve(positive, score)
        # Recall falls with the threshold; the best precision from each recall on.
        best = np.maximum.accumulate(precision[:-1])
        places = np.searchsorted(recall[:-1][::-1], grid - 1e-12)
        curves[name] = best[::-1][places]
    return pd.DataFrame(curves).round(6)


def roc_areas(labels: Sequence[str], probabilities: np.ndarray, classes: Sequence[str]) -> dict[str, float]:
    """Exact area under the one-vs-rest ROC curve of each class that `roc_curves` has a column for."""
    found = _one_vs_rest(labels, probabilities, classes)
    return {name: rounded(roc_auc_score(positive, score)) for name, positive, score in found}


def average_precisions(labels: Sequence[str], probabilities: np.ndarray, classes: Sequence[str]) -> dict[str, float]:
    """Average precision, one-vs-rest, of the same classes."""
    found = _one_vs_rest(labels, probabilities, classes)
    return {name: rounded(average_precision_score(positive, score)) for name, positive, score in found}


def _one_vs_rest(labels, probabilities, classes) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    actual, _, probabilities = as_arrays(labels, probabilities, classes)
    for i, name in enumerate(classes):
        positive = actual == i
        if positive.any() and not positive.all():
            yield name, positive, probabilities[:, i]
