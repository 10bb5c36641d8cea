"""Distance of features from the classes of the training images: the part of `novelty` that prediction needs, too."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Novelty:
    """What a score needs; all float64.

    Attributes:
        mean, scale: (features,), of the training images.
        class_means: (classes, features), of the standardised features.
        precision: (features, features), inverse covariance within the classes.
        threshold: distance that 99 % of the validation scans stay within.
    """

    mean: np.ndarray
    scale: np.ndarray
    class_means: np.ndarray
    precision: np.ndarray
    threshold: float

    def score(self, features: np.ndarray) -> np.ndarray:
        """(n,) float64: distance of (n, features) to the nearest class, relative to the threshold; above 1: no scan."""
        standard = (features.astype(np.float64) - self.mean) / self.scale
        offsets = standard[:, None] - self.class_means
        squares = np.einsum("ncd,de,nce->nc", offsets, self.precision, offsets, optimize=True)
        return np.sqrt(squares.min(axis=1)) / self.threshold
