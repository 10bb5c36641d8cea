"""Novelty detection: is a picture a scan like those of training? See `exported.novelty` for the score.

The covariance is shrunk after Ledoit and Wolf (2004), as there are hundreds of features and some thousand images. The
score was preferred to distances to nearest neighbours (Sun et al., ICML 2022) on the kinds of pictures in
`perturbations.non_scans.DEVELOPMENT`.
"""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.covariance import LedoitWolf
from sklearn.metrics import roc_auc_score

from brain_tumor.exported.novelty import Novelty
from brain_tumor.imaging.decoding import decode
from brain_tumor.imaging.preprocessing import Preprocessing, prepare_grey
from brain_tumor.metrics.rounding import rounded
from brain_tumor.perturbations.non_scans import DEVELOPMENT, HELD_OUT, non_scan

_ACCEPTED = 0.99  # share of the validation scans below the threshold
_DETECTED = 0.95

_KINDS = {"development": DEVELOPMENT, "held_out": HELD_OUT}


class NoveltyTrial:
    """The novelty scores of every fold's model, on scans and on pictures that are no scans.

    Args:
        root: of the data set.
        pictures: number of pictures of each kind, per fold.

    Attributes:
        shown: kind -> (n, size, size) uint8, its prepared pictures of the first fold.
    """

    def __init__(self, root: Path, pictures: int) -> None:
        self.shown: dict[str, np.ndarray] = {}
        self._root, self._pictures = root, pictures
        self._scans = {part: [] for part in _KINDS}
        self._others = {part: [] for part in _KINDS}

    def add(
        self,
        features: Callable[[np.ndarray], np.ndarray],
        images: np.ndarray,
        table: pd.DataFrame,
        test_role: str,
        preprocessing: Preprocessing,
    ) -> Novelty:
        """Fit the score of one model and apply it: to validation scans and `DEVELOPMENT`, to test scans and `HELD_OUT`.

        Args:
            features: (n, size, size) uint8 images -> (n, features) of the model.
            images: (n, size, size) uint8 of the store.
            table: n rows with path, label and role.
            test_role: role of the test scans.
            preprocessing: of the model.
        """
        role = table["role"].to_numpy()
        seen = {name: features(images[role == name]) for name in ("train", "validation", test_role)}
        novelty = fit_novelty(seen["train"], table["label"][role == "train"].to_numpy(), seen["validation"])
        for part, name in (("development", "validation"), ("held_out", test_role)):
            self._scans[part].append(novelty.score(seen[name]))
            paths = table["path"][role == name].sample(frac=1, random_state=0)[: self._pictures]
            for kind in _KINDS[part]:
                scans = (decode((self._root / path).read_bytes()) for path in paths)
                drawn = (non_scan(kind, seed, scan) for seed, scan in enumerate(scans))
                pictures = np.stack([prepare_grey(picture, preprocessing) for picture in drawn])
                self.shown.setdefault(kind, pictures)
                scores = novelty.score(features(pictures))
                self._others[part].append(pd.DataFrame({"kind": kind, "score": scores}))
        return novelty

    def scores(self) -> dict:
        """Part -> what `novelty_scores` returns for all folds together."""
        return {
            part: novelty_scores(np.concatenate(self._scans[part]), pd.concat(self._others[part])) for part in _KINDS
        }


def fit_novelty(features: np.ndarray, labels: np.ndarray, validation: np.ndarray) -> Novelty:
    """Fit the score on training images and its threshold on validation images.

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


def novelty_scores(scans: np.ndarray, others: pd.DataFrame) -> dict:
    """How well the score separates scans from other pictures.

    Args:
        scans: (n,) scores of scans.
        others: columns kind and score, of other pictures.

    Returns:
        n, roc_auc, false_alarms (false-positive rate on scans at the threshold that detects 95 % of the others) and
        detected (share of the others above the novelty threshold), of all kinds together; scans and scans_refused,
        the number of scans and the share of them above the threshold; per_kind.<kind>, the same for each kind.
    """

    def separation(scores: np.ndarray) -> dict:
        truth = np.repeat([0, 1], [len(scans), len(scores)])
        found = np.sort(scores)[::-1][math.ceil(_DETECTED * len(scores)) - 1]
        return {
            "n": len(scores),
            "roc_auc": rounded(roc_auc_score(truth, np.concatenate([scans, scores]))),
            "false_alarms": rounded(np.mean(scans >= found)),
            "detected": rounded(np.mean(scores > 1)),
        }

    kinds = others.groupby("kind", sort=False)["score"]
    per_kind = {kind: separation(scores.to_numpy()) for kind, scores in kinds}
    refused = {"scans": len(scans), "scans_refused": rounded(np.mean(scans > 1))}
    return separation(others["score"].to_numpy()) | refused | {"per_kind": per_kind}
