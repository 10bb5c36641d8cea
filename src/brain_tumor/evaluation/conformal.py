"""Prediction sets that hold the true class with a stated probability, whatever that class is.

Split conformal prediction, conditional on the class (Sadinle, Lei and Wasserman, JASA 114, 2019; Angelopoulos and
Bates, arXiv 2107.07511): a class is in the set when its probability is as large as for all but a share `alpha` of
the validation images of that class. The promise is for images that are exchangeable with those of validation; images
of one patient are not independent, so the coverage is measured on the test with an interval over patients.
"""

import math

import numpy as np


def conformal_thresholds(probabilities: np.ndarray, actual: np.ndarray, alpha: float) -> np.ndarray:
    """Least probability with which each class is taken into a set.

    Args:
        probabilities: (n, classes), of validation images.
        actual: (n,) int.
        alpha: share of the images of each class that may be missed.

    Returns:
        (classes,) float64; 0 (always taken) for a class with too few images for the promise, fewer than 1/alpha - 1.
    """
    thresholds = np.zeros(probabilities.shape[1])
    for i in range(len(thresholds)):
        own = np.sort(probabilities[actual == i, i])[::-1]
        rank = math.ceil((len(own) + 1) * (1 - alpha))
        if rank <= len(own):
            thresholds[i] = own[rank - 1]
    return thresholds


def prediction_sets(probabilities: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """(n, classes) bool, which classes are in the set of each image; a set may be empty: no class is typical."""
    return probabilities >= thresholds
