"""Confidence intervals from a bootstrap over patient groups.

Images of one patient are alike, so an interval over images would be too narrow; whole groups are drawn
instead (cluster bootstrap: Field and Welsh, J. R. Statist. Soc. B 69(3), 2007).
"""

import numpy as np
import pandas as pd

RESAMPLES = 2000
_SEED = 0


def interval(
    actual: np.ndarray, predicted: np.ndarray, groups: np.ndarray, classes: int, resamples: int = RESAMPLES
) -> dict[str, tuple[float, float]]:
    """95 % percentile intervals of the scores that follow from a confusion matrix.

    Args:
        actual, predicted: (n,) int, classes of the images.
        groups: (n,) any, the unit that is drawn with replacement.
        classes: number of classes.
        resamples: number of draws.

    Returns:
        accuracy, balanced_accuracy and macro_f1 -> (low, high). The averages over classes are over those that a
        resample has images of.
    """
    codes, names = pd.factorize(np.asarray(groups))
    matrices = np.zeros((len(names), classes, classes))
    np.add.at(matrices, (codes, actual, predicted), 1)
    random = np.random.default_rng(_SEED)
    draws = random.multinomial(len(names), np.full(len(names), 1 / len(names)), size=resamples)
    drawn = np.tensordot(draws, matrices, axes=1)  # (resamples, classes, classes)
    hits = np.diagonal(drawn, axis1=1, axis2=2)
    images, called = drawn.sum(axis=2), drawn.sum(axis=1)
    present = np.where(images > 0, 1.0, np.nan)
    scores = {
        "accuracy": hits.sum(axis=1) / images.sum(axis=1),
        "balanced_accuracy": np.nanmean(hits / np.maximum(images, 1) * present, axis=1),
        "macro_f1": np.nanmean(2 * hits / np.maximum(images + called, 1) * present, axis=1),
    }
    return {name: tuple(np.percentile(values, [2.5, 97.5])) for name, values in scores.items()}
