"""Selective classification: the error among the images that are answered, most confident first, by their share.

R. El-Yaniv and Y. Wiener: On the Foundations of Noise-free Selective Classification, JMLR 11, 2010; area under the
curve as in Geifman, Uziel and El-Yaniv, ICLR 2019. The confidence of an image is its largest probability.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd


def risk_coverage(confidence: np.ndarray, correct: np.ndarray) -> pd.DataFrame:
    """The error among the images with at least a given confidence.

    Args:
        confidence: (n,) float.
        correct: (n,) bool.

    Returns:
        A row per distinct confidence, in falling order: threshold, coverage (share of the images with at least that
        confidence) and risk (share of errors among them).
    """
    order = np.argsort(-confidence, kind="stable")
    sorted_confidence = confidence[order]
    last = np.flatnonzero(np.append(np.diff(sorted_confidence) != 0, True))  # equal confidences are answered together
    answered = last + 1
    errors = np.cumsum(~correct[order])[last]
    return pd.DataFrame(
        {"threshold": sorted_confidence[last], "coverage": answered / len(order), "risk": errors / answered}
    )


def risk_coverage_area(curve: pd.DataFrame) -> float:
    """Area under the risk-coverage curve, as a step function: 0 is best, random confidences give the error rate."""
    return float((curve["risk"] * np.diff(curve["coverage"], prepend=0)).sum())


def abstention_threshold(
    confidence: np.ndarray, correct: np.ndarray, target: float, parts: Sequence[np.ndarray] = ()
) -> float:
    """The lowest threshold on the confidence that keeps the error of the answers on these images within `target`.

    Args:
        confidence, correct: of validation images.
        target: share of answers that may be wrong.
        parts: (n,) bool each, images among which it is to be kept as well; where none is answered, none is wrong.

    Returns:
        Answer if `confidence >= threshold`; infinity if no threshold keeps the target.

    Example:
        >>> abstention_threshold(np.array([0.9, 0.8, 0.7, 0.6]), np.array([True, True, False, True]), 0.25)
        0.6
        >>> abstention_threshold(np.array([0.9, 0.8, 0.7, 0.6]), np.array([True, True, False, True]), 0.2)
        0.8
    """
    thresholds = np.unique(confidence)
    kept = np.ones(len(thresholds), bool)
    # All at once: the lowest threshold of each part may be too low or too high for another one.
    for part in (np.ones(len(confidence), bool), *parts):
        counts = [np.sort(confidence[rows]) for rows in (part, part & ~correct)]
        answers, errors = (len(values) - np.searchsorted(values, thresholds) for values in counts)
        kept &= errors / np.maximum(answers, 1) <= target
    return float(thresholds[kept][0]) if kept.any() else float("inf")
