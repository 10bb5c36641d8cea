"""Confidence intervals from a bootstrap over patient groups.

Images of one patient are not independent, so an interval over images would be too narrow. Whole groups are drawn
instead (cluster bootstrap: Field and Welsh, J. R. Statist. Soc. B 69(3), 2007).
"""

import numpy as np
import pandas as pd

RESAMPLES = 2000
_SEED = 0


def group_draws(groups: np.ndarray, resamples: int = RESAMPLES) -> tuple[np.ndarray, np.ndarray]:
    """Draw groups with replacement.

    Args:
        groups: (n,) any, group of each image.
        resamples: number of draws.

    Returns:
        (n,) int, index of each image's group, and (resamples, groups) int, how often each group was drawn.
    """
    codes, names = pd.factorize(np.asarray(groups))
    random = np.random.default_rng(_SEED)
    return codes, random.multinomial(len(names), np.full(len(names), 1 / len(names)), size=resamples)


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
    matrices = np.zeros((draws.shape[1], classes, classes))
    np.add.at(matrices, (codes, actual, predicted), 1)
    return np.tensordot(draws, matrices, axes=1)


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
    return _bounds((draws @ sums) / (draws @ images))


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

    def share(rows: np.ndarray, hits: np.ndarray) -> np.ndarray:
        counted = [np.bincount(codes[part], minlength=draws.shape[1]) for part in (rows, rows & hits)]
        with np.errstate(invalid="ignore"):
            return (draws @ counted[1]) / (draws @ counted[0])

    order = np.argsort(score, kind="stable")
    starts = np.flatnonzero(np.diff(score[order], prepend=np.nan) != 0)  # equal scores are one step of the curve
    areas = []
    for part in np.array_split(draws, max(1, len(truth) * resamples // 20_000_000)):
        weights = part[:, codes[order]].astype(np.float64)
        positive, negative = (np.add.reduceat(weights * side[order], starts, axis=1) for side in (truth, ~truth))
        below = np.cumsum(negative, axis=1) - negative / 2
        with np.errstate(invalid="ignore"):
            areas.append((positive * below).sum(axis=1) / (positive.sum(axis=1) * negative.sum(axis=1)))
    return {
        "sensitivity": _bounds(share(truth, called)),
        "specificity": _bounds(share(~truth, ~called)),
        "roc_auc": _bounds(np.concatenate(areas)),
    }


def _bounds(values: np.ndarray) -> tuple[float, float]:
    low, high = np.nanpercentile(values, [2.5, 97.5])
    return float(low), float(high)
