"""Prediction sets that contain the true class with a given probability, for each class.

Class-conditional split conformal prediction (Sadinle, Lei and Wasserman, JASA 114, 2019; Angelopoulos and Bates,
arXiv 2107.07511): a class is in the set if its probability is at least as large as for all but a share `alpha` of the
validation images of that class. The coverage is guaranteed for images that are exchangeable with the validation
images. Images of one patient are not independent, so the coverage is also measured on the test set, with an interval
over patients.
"""

import math

import numpy as np


def conformal_thresholds(probabilities: np.ndarray, actual: np.ndarray, alpha: float) -> np.ndarray:
    """Smallest probability at which each class is in the prediction set.

    Args:
        probabilities: (n, classes), of validation images.
        actual: (n,) int.
        alpha: share of the images of each class that may be missed.

    Returns:
        (classes,) float64; 0 (always in the set) for a class with fewer than 1/alpha - 1 images, too few for the
        guarantee.
    """
    thresholds = np.zeros(probabilities.shape[1])
    for i in range(len(thresholds)):
        own = np.sort(probabilities[actual == i, i])[::-1]
        rank = math.ceil((len(own) + 1) * (1 - alpha))
        if rank <= len(own):
            thresholds[i] = own[rank - 1]
    return thresholds


def prediction_sets(probabilities: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """(n, classes) bool: which classes are in the set of each image. A set may be empty: the image is typical of none.

    Example:
        >>> prediction_sets(np.array([[0.7, 0.3], [0.5, 0.5]]), np.array([0.6, 0.4])).tolist()
        [[True, False], [False, True]]
    """
    return probabilities >= thresholds
