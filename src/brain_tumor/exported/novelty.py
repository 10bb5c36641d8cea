"""The novelty score: distance of an image's features from the classes of the training images.

Mahalanobis distance to the nearest class mean under a covariance that all classes share (Lee et al., NeurIPS 2018).
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Novelty:
    """A fitted score; all float64.

    Attributes:
        mean, scale: (features,), of the training images.
        class_means: (classes, features), of the standardised features.
        precision: (features, features), inverse covariance within the classes.
        threshold: 99th percentile of the distances of validation scans.
    """

    mean: np.ndarray
    scale: np.ndarray
    class_means: np.ndarray
    precision: np.ndarray
    threshold: float

    def score(self, features: np.ndarray) -> np.ndarray:
        """(n,) float64: distance of (n, features) to the nearest class, divided by the threshold; above 1: novel."""
        standard = (features.astype(np.float64) - self.mean) / self.scale
        offsets = standard[:, None] - self.class_means
        squares = np.einsum("ncd,de,nce->nc", offsets, self.precision, offsets, optimize=True)
        return np.sqrt(squares.min(axis=1)) / self.threshold
