"""Scores of calibration: Brier score, expected calibration error, and the table behind the reliability diagram."""

import numpy as np
import pandas as pd

from brain_tumor.metrics.rounding import rounded

BINS = 15


def calibration_scores(probabilities: np.ndarray, actual: np.ndarray) -> dict[str, float]:
    """log_loss, brier and ece of (n, classes) probabilities of images whose classes are `actual`, (n,) int.

    log_loss is the mean negative natural logarithm of the probability of the true class, which is clipped at the
    float64 epsilon (so log_loss is at most 36.04).
    """
    # scikit-learn's log_loss warns about float32 probabilities, whose sum is not 1 to the precision of a float64.
    likelihood = probabilities[np.arange(len(actual)), actual].clip(np.finfo(np.float64).eps, 1)
    return {
        "log_loss": rounded(0.0 - np.log(likelihood).mean()),
        "brier": rounded(brier_score(probabilities, actual)),
        "ece": rounded(expected_calibration_error(probabilities, actual)),
    }


def brier_score(probabilities: np.ndarray, actual: np.ndarray) -> float:
    """Mean squared error of the probabilities, summed over classes: 0 to 2 (Brier, Mon. Weather Rev. 78, 1950)."""
    return float(np.square(probabilities - np.eye(probabilities.shape[1])[actual]).sum(axis=1).mean())


def expected_calibration_error(probabilities: np.ndarray, actual: np.ndarray, bins: int = BINS) -> float:
    """Mean difference of confidence and accuracy over equally wide bins of confidence (Guo et al., ICML 2017).

    Args:
        probabilities: (n, classes); the confidence of an image is the largest one.
        actual: (n,) int.
        bins: number of bins of (0, 1], each closed on the right.

    Returns:
        0 to 1, each bin weighted by its share of the images.

    Example:
        >>> expected_calibration_error(np.array([[0.9, 0.1]] * 10), np.array([0] * 9 + [1]))
        0.0
    """
    table = reliability_table(probabilities, actual, bins)
    return float((table["n"] * (table["confidence"] - table["accuracy"]).abs()).sum() / table["n"].sum())


def reliability_table(probabilities: np.ndarray, actual: np.ndarray, bins: int = BINS) -> pd.DataFrame:
    """A row per non-empty bin: n, confidence (mean) and accuracy."""
    confidence = probabilities.max(axis=1)
    place = np.ceil(confidence * bins).clip(1, bins).astype(int)
    frame = pd.DataFrame({"bin": place, "confidence": confidence, "accuracy": probabilities.argmax(axis=1) == actual})
    return frame.groupby("bin").agg(n=("bin", "size"), confidence=("confidence", "mean"), accuracy=("accuracy", "mean"))


def reliability_rows(stages: dict[str, np.ndarray], actual: np.ndarray) -> pd.DataFrame:
    """`reliability_table` of several sets of probabilities, below each other; `calibration` names the set."""
    tables = [reliability_table(p, actual).assign(calibration=name) for name, p in stages.items()]
    rows = pd.concat(tables, ignore_index=True)[["calibration", "n", "confidence", "accuracy"]]
    return rows.assign(confidence=rows["confidence"].map(rounded), accuracy=rows["accuracy"].map(rounded))
