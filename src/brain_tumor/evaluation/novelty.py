"""Is this a scan like those of training at all? Distance of its features from the features of the classes.

Mahalanobis distance to the nearest class mean under a covariance that the classes share (Lee et al., NeurIPS 2018),
shrunk after Ledoit and Wolf (2004), as there are hundreds of features and some thousand images. It was preferred to
distances to nearest neighbours (Sun et al., ICML 2022) on the kinds of pictures in `odd_pictures.DEVELOPMENT`.
"""

import math
from dataclasses import replace

import numpy as np
import pandas as pd
from sklearn.covariance import LedoitWolf
from sklearn.metrics import roc_auc_score

from brain_tumor.evaluation.inputs import rounded
from brain_tumor.evaluation.mahalanobis import Novelty

_ACCEPTED = 0.99  # share of the validation scans that the threshold lets pass
_DETECTED = 0.95


def fit_novelty(features: np.ndarray, labels: np.ndarray, validation: np.ndarray) -> Novelty:
    """Fit on training images and set the threshold on validation images.

    Args:
        features: (n, features), of the training images.
        labels: (n,) int.
        validation: (m, features), of the validation images.
    """
    features = features.astype(np.float64)
    mean, scale = features.mean(axis=0), features.std(axis=0) + 1e-6
    standard = (features - mean) / scale
    _, codes = np.unique(labels, return_inverse=True)
    class_means = np.stack([standard[codes == i].mean(axis=0) for i in range(codes.max() + 1)])
    precision = np.linalg.inv(LedoitWolf(assume_centered=True).fit(standard - class_means[codes]).covariance_)
    unscaled = Novelty(mean, scale, class_means, precision, 1.0)
    return replace(unscaled, threshold=float(np.quantile(unscaled.score(validation), _ACCEPTED)))


def novelty_figures(scans: np.ndarray, odd: pd.DataFrame) -> dict:
    """How well scores tell scans from other pictures.

    Args:
        scans: (n,) scores of scans.
        odd: columns kind and score, of other pictures.

    Returns:
        n, roc_auc, false_alarms (share of the scans that score no less than the 95 % of the other pictures that score
        highest) and detected (share of the others above the threshold) of all kinds together; scans and
        scans_refused, their number and the share of them above the threshold; per_kind.<kind>, as of all.
    """

    def figures(scores: np.ndarray) -> dict:
        truth = np.repeat([0, 1], [len(scans), len(scores)])
        found = np.sort(scores)[::-1][math.ceil(_DETECTED * len(scores)) - 1]
        return {
            "n": len(scores),
            "roc_auc": rounded(roc_auc_score(truth, np.concatenate([scans, scores]))),
            "false_alarms": rounded(np.mean(scans >= found)),
            "detected": rounded(np.mean(scores > 1)),
        }

    kinds = odd.groupby("kind", sort=False)["score"]
    per_kind = {kind: figures(scores.to_numpy()) for kind, scores in kinds}
    refused = {"scans": len(scans), "scans_refused": rounded(np.mean(scans > 1))}
    return figures(odd["score"].to_numpy()) | refused | {"per_kind": per_kind}
