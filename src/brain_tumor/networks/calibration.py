"""Temperature and bias calibration: one scale and a bias per class on the logits, fitted on validation images.

Bias-corrected temperature scaling (Alexandari, Kundaje and Shrikumar, ICML 2020); the scale is one divided by the
temperature. The scale corrects over-confidence; the biases correct a preference for the class that was learned most
easily, such as calling every mass near the pituitary gland a pituitary tumour.
"""

import numpy as np
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax, xlogy

_SMALLEST = 1e-12


def fit_calibration(probabilities: np.ndarray, allowed: np.ndarray) -> tuple[float, np.ndarray]:
    """Scale and biases of maximum posterior likelihood, under a standard normal prior on the biases and the log scale.

    With hundreds of images the prior hardly matters; it keeps the bias of a class without any image finite. An image
    with a partial label has the likelihood that the training maximises, see `training.losses`.

    Args:
        probabilities: (n, classes), of images that the network did not learn from.
        allowed: (n, classes) bool, the classes among which the true one is.

    Returns:
        The scale and the (classes,) float64 biases for `calibrated`, rounded to four decimals: processors sum in
        different orders, and further decimals would differ between them.

    Example:
        >>> overconfident = np.array([[0.99, 0.01], [0.99, 0.01], [0.99, 0.01], [0.01, 0.99]] * 50)
        >>> scale, biases = fit_calibration(overconfident, np.eye(2, dtype=bool)[[0, 0, 1, 1] * 50])
        >>> scale < 1
        True
    """
    x = _logs(probabilities)

    def loss(values: np.ndarray) -> tuple[float, np.ndarray]:
        scale, biases = np.exp(values[0]), values[1:]
        logs = log_softmax(scale * x + biases, axis=1)
        # The distribution over the allowed classes; a single one gets exactly 1, however small its probability.
        truth = softmax(np.where(allowed, logs, -np.inf), axis=1)
        excess = np.exp(logs) - truth
        slope = np.concatenate([[scale * (excess * x).sum()], excess.sum(axis=0)])
        return -(logs * truth).sum() + xlogy(truth, truth).sum() + values @ values / 2, slope + values

    found = minimize(loss, np.zeros(x.shape[1] + 1), jac=True, method="BFGS", options={"gtol": 1e-8}).x
    return round(float(np.exp(found[0])), 4), found[1:].round(4)


def calibrated(probabilities: np.ndarray, scale: float, biases: np.ndarray) -> np.ndarray:
    """(n, classes) probabilities after scaling and biasing the logits of (n, classes) probabilities."""
    return np.exp(log_softmax(scale * _logs(probabilities) + biases, axis=1))


def _logs(probabilities: np.ndarray) -> np.ndarray:
    return np.log(np.maximum(np.asarray(probabilities, dtype=np.float64), _SMALLEST))
