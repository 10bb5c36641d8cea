"""The novelty score: distance of an image's features from the classes of the training images.

Mahalanobis distance to the nearest class mean under a covariance that all classes share (Lee et al., NeurIPS 2018).
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Novelty:
    """A fitted score.

    Attributes:
        mean, scale: (features,) float64, of the training images.
        class_means: (classes, features) float64, of the standardised features.
        whitening: (features, features) float32; multiplied by its transpose it is the inverse covariance within the
            classes, so the distance of whitened features is the Mahalanobis distance.
        threshold: distance that is exceeded by 1 % of scans of the kind that was learned from.
    """

    mean: np.ndarray
    scale: np.ndarray
    class_means: np.ndarray
    whitening: np.ndarray
    threshold: float

    def score(self, features: np.ndarray) -> np.ndarray:
        """(n,) float64: distance of (n, features) to the nearest class, divided by the threshold; above 1: novel."""
        whitening = self.whitening.astype(np.float64)
        places = ((features.astype(np.float64) - self.mean) / self.scale) @ whitening
        squares = [np.square(places - mean).sum(axis=1) for mean in self.class_means @ whitening]
        return np.sqrt(np.min(squares, axis=0)) / self.threshold
