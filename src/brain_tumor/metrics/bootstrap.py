"""Confidence intervals from a bootstrap over patient groups.

Images of one patient are not independent, so an interval over images would be too narrow. Whole groups are drawn
instead (cluster bootstrap: Field and Welsh, J. R. Statist. Soc. B 69(3), 2007).
"""

from collections.abc import Iterator

import numpy as np
import pandas as pd

RESAMPLES = 2000
_SEED = 0
_HELD = 1_000_000  # draws times images


def group_draws(groups: np.ndarray, resamples: int = RESAMPLES) -> tuple[np.ndarray, Iterator[np.ndarray]]:
    """Draw groups with replacement.

    Args:
        groups: (n,) any, group of each image.
        resamples: number of draws.

    Returns:
        (n,) int, index of each image's group, and how often each group was drawn, (k, groups) int, as many draws at a
        time as memory holds whatever n is. The draws do not depend on k.
    """
    codes, names = pd.factorize(np.asarray(groups))
    random, size = np.random.default_rng(_SEED), max(1, _HELD // len(codes))
    share = np.full(len(names), 1 / len(names))
    return codes, (
        random.multinomial(len(names), share, size=min(size, resamples - start)) for start in range(0, resamples, size)
    )


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
        accuracy, balanced_accuracy, macro_f1 and mcc -> (low, high). Averages over classes are over the classes that
        a resample has images of.

    Example:
        >>> actual = np.arange(40) % 2
        >>> low, high = interval(actual, np.zeros(40, int), np.arange(40) // 4, 2)["accuracy"]
        >>> low <= 0.5 <= high
        True
    """
    resampled = confusion_scores(resampled_confusions(actual, predicted, groups, classes, resamples))
    return {name: _bounds(values) for name, values in resampled.items()}


def resampled_confusions(
    actual: np.ndarray, predicted: np.ndarray, groups: np.ndarray, classes: int, resamples: int = RESAMPLES
) -> np.ndarray:
    """(resamples, classes, classes) confusion matrices, actual by predicted, of resampled groups."""
    codes, draws = group_draws(groups, resamples)
    matrices = np.zeros((codes.max() + 1, classes, classes))
    np.add.at(matrices, (codes, actual, predicted), 1)
    return np.concatenate([np.tensordot(part, matrices, axes=1) for part in draws])


def confusion_scores(matrices: np.ndarray) -> dict[str, np.ndarray]:
    """The scores of `interval` from (..., classes, classes) confusion matrices, each (...)."""
    hits = np.diagonal(matrices, axis1=-2, axis2=-1)
    images, called = matrices.sum(axis=-1), matrices.sum(axis=-2)
    n = images.sum(axis=-1)
    present = np.where(images > 0, 1.0, np.nan)
    chance = (images * called).sum(axis=-1)
    spread = (n**2 - np.square(images).sum(axis=-1)) * (n**2 - np.square(called).sum(axis=-1))
    return {
        "accuracy": hits.sum(axis=-1) / n,
        "balanced_accuracy": np.nanmean(hits / np.maximum(images, 1) * present, axis=-1),
        "macro_f1": np.nanmean(2 * hits / np.maximum(images + called, 1) * present, axis=-1),
        "mcc": (n * hits.sum(axis=-1) - chance) / np.sqrt(np.maximum(spread, 1)),
    }


def mean_interval(values: np.ndarray, groups: np.ndarray, resamples: int = RESAMPLES) -> tuple[float, float]:
    """95 % percentile interval of the mean over images.

    Args:
        values: (n,) float or bool.
        groups: (n,) any, the unit that is drawn with replacement.
        resamples: number of draws.
    """
    codes, draws = group_draws(groups, resamples)
    sums, images = np.bincount(codes, weights=values), np.bincount(codes)
    return _bounds(np.concatenate([(part @ sums) / (part @ images) for part in draws]))


def detection_interval(
    truth: np.ndarray, score: np.ndarray, called: np.ndarray, groups: np.ndarray, resamples: int = RESAMPLES
) -> dict[str, tuple[float, float]]:
    """95 % percentile intervals of sensitivity, specificity and roc_auc.

    Args:
        truth: (n,) bool, what is to be detected; both values occur.
        score: (n,) float, higher where it is more likely.
        called: (n,) bool, whether it was detected.
        groups: (n,) any, the unit that is drawn with replacement.
        resamples: number of draws. Those without images of either side do not count.
    """
    codes, draws = group_draws(groups, resamples)

    def counts(rows: np.ndarray) -> np.ndarray:
        return np.bincount(codes[rows], minlength=codes.max() + 1)

    sides = [(counts(rows & hits), counts(rows)) for rows, hits in ((truth, called), (~truth, ~called))]
    order = np.argsort(score, kind="stable")
    starts = np.flatnonzero(np.diff(score[order], prepend=np.nan) != 0)  # equal scores are one step of the curve
    found = []
    for part in draws:
        weights = part[:, codes[order]].astype(np.float64)
        positive, negative = (np.add.reduceat(weights * side[order], starts, axis=1) for side in (truth, ~truth))
        below = np.cumsum(negative, axis=1) - negative / 2
        with np.errstate(invalid="ignore"):
            shares = [(part @ hits) / (part @ rows) for hits, rows in sides]
            area = (positive * below).sum(axis=1) / (positive.sum(axis=1) * negative.sum(axis=1))
        found.append([*shares, area])
    names = ("sensitivity", "specificity", "roc_auc")
    return dict(zip(names, map(_bounds, np.concatenate(found, axis=1)), strict=True))


def _bounds(values: np.ndarray) -> tuple[float, float]:
    low, high = np.nanpercentile(values, [2.5, 97.5])
    return float(low), float(high)
