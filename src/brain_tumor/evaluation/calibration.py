"""Probabilities that mean what they say: one scale and a bias per class, fitted on validation images.

Bias-corrected temperature scaling (Alexandari, Kundaje and Shrikumar, ICML 2020). The scale takes back
over-confidence; the biases take back that a network calls new patients by the class it has learned most easily, such
as every mass near the pituitary gland a pituitary tumour.
"""

import numpy as np
from scipy.optimize import minimize
from scipy.special import log_softmax

_SMALLEST = 1e-12
_SEED = 0


def fit_calibration(probabilities: np.ndarray, labels: np.ndarray) -> tuple[float, np.ndarray]:
    """Scale and biases with the best likelihood, under a standard normal prior on the biases and the log scale.

    The prior is worth less than one image where there are hundreds, and keeps the bias of a class without any
    image finite.

    Args:
        probabilities: (n, classes), of images that the network did not learn from.
        labels: (n,) int, their classes.

    Returns:
        The scale and the (classes,) float64 biases for `calibrated`, to four decimals: further ones differ between
        processors, whose linear algebra sums in other orders.
    """
    x = _logs(probabilities)
    truth = np.eye(x.shape[1])[labels]

    def loss(values: np.ndarray) -> tuple[float, np.ndarray]:
        scale, biases = np.exp(values[0]), values[1:]
        logs = log_softmax(scale * x + biases, axis=1)
        excess = np.exp(logs) - truth
        slope = np.concatenate([[scale * (excess * x).sum()], excess.sum(axis=0)])
        return -(logs * truth).sum() + values @ values / 2, slope + values

    found = minimize(loss, np.zeros(x.shape[1] + 1), jac=True, method="BFGS", options={"gtol": 1e-8}).x
    return round(float(np.exp(found[0])), 4), found[1:].round(4)


def calibrated(probabilities: np.ndarray, scale: float, biases: np.ndarray) -> np.ndarray:
    """(n, classes) probabilities, as a network gives them whose logits are scaled and biased so."""
    return np.exp(log_softmax(scale * _logs(probabilities) + biases, axis=1))


def cross_fitted(probabilities: np.ndarray, labels: np.ndarray, groups: np.ndarray, halvings: int = 10) -> np.ndarray:
    """Probabilities of each image under calibrations that were fitted on other patients.

    The groups are halved at random; each half is calibrated by the other one. A calibration that was fitted on
    the same images is taken back by this, as the family of calibrations is closed.

    Args:
        probabilities: (n, classes).
        labels: (n,) int.
        groups: (n,) any, what stays together.
        halvings: how often.

    Returns:
        (halvings, n, classes).
    """
    _, codes = np.unique(groups, return_inverse=True)
    rng = np.random.default_rng(_SEED)
    results = np.empty((halvings, *probabilities.shape))
    for result in results:
        half = (rng.permutation(codes.max() + 1) % 2)[codes]
        for own in (0, 1):
            fitted = fit_calibration(probabilities[half != own], labels[half != own])
            result[half == own] = calibrated(probabilities[half == own], *fitted)
    return results


def _logs(probabilities: np.ndarray) -> np.ndarray:
    return np.log(np.maximum(np.asarray(probabilities, dtype=np.float64), _SMALLEST))
