"""Novelty detection: is a picture a scan like those of training? See `exported.novelty` for the score.

The covariance is shrunk after Ledoit and Wolf (2004), as there are hundreds of features and some thousand images. The
score was preferred to distances to nearest neighbours (Sun et al., ICML 2022) on the kinds of pictures in
`perturbations.non_scans.DEVELOPMENT`.

Scans that a network has learned from lie nearer than others, so a threshold cannot come from them alone, and the
network that is served has learned from all. What carries over from network to network is the ratio of the two: the
threshold is the 99th percentile of the distances of the network's own training scans, times how much farther the same
percentile lies for held-out scans, on average over other networks of the same recipe.
"""

import math
from collections.abc import Callable, Mapping, Sequence
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

_ACCEPTED = 0.99  # share of held-out scans below the threshold
_DETECTED = 0.95

_PARTS = {"development": ("validation", DEVELOPMENT), "held_out": ("test", HELD_OUT)}


class NoveltyTrial:
    """The novelty scores of every fold's model, on scans and on pictures that are no scans.

    Args:
        root: of the data set.
        main: name of the main source, whose scans pictures are made from.
        pictures: number of pictures of each kind, per fold.
        all_folds: whether every fold is run. Then the threshold of a network comes from the test scans of the others,
            otherwise from its own validation scans.

    Attributes:
        shown: kind -> (n, size, size) uint8, its prepared pictures of the first fold.
    """

    def __init__(self, root: Path, main: str, pictures: int, all_folds: bool) -> None:
        self.shown: dict[str, np.ndarray] = {}
        self._root, self._main, self._pictures, self._all_folds = root, main, pictures, all_folds
        self._fitted: list[tuple[Novelty, float]] = []  # and the percentile of its training scans
        self._scans = {part: [] for part in _PARTS}
        self._others = {part: [] for part in _PARTS}

    def add(
        self,
        features: Callable[[np.ndarray], np.ndarray],
        images: np.ndarray,
        labels: Sequence[str],
        scans: Mapping[str, tuple[pd.DataFrame, np.ndarray]],
        preprocessing: Preprocessing,
    ) -> None:
        """Fit the score of the next fold's model, and apply it to scans and to pictures that are none.

        Args:
            features: (n, size, size) uint8 images -> (n, features) of the model.
            images: (n, size, size) uint8 that it learned from.
            labels: their (n,) labels.
            scans: "validation" and "test" -> the table of such scans, with path and source, and their features.
            preprocessing: of the model.
        """
        novelty, own = _fit(features(images), labels)
        self._fitted.append((novelty, own))
        for part, (name, kinds) in _PARTS.items():
            table, found = scans[name]
            self._scans[part].append(table[["source"]].assign(score=novelty.score(found)))
            paths = table.loc[table["source"] == self._main, "path"].sample(frac=1, random_state=0)[: self._pictures]
            for kind in kinds:
                drawn = (
                    non_scan(kind, seed, decode((self._root / path).read_bytes())) for seed, path in enumerate(paths)
                )
                pictures = np.stack([prepare_grey(picture, preprocessing) for picture in drawn])
                self.shown.setdefault(kind, pictures)
                scores = novelty.score(features(pictures))
                self._others[part].append(pd.DataFrame({"kind": kind, "score": scores, "fold": len(self._fitted) - 1}))

    def served(self, features: np.ndarray | None = None, labels: Sequence[str] = ()) -> Novelty:
        """The score of the network that is served.

        Args:
            features: (n, features) of all images, where a network of all patients is served; None: that of the first
                fold is.
            labels: (n,) of these images.
        """
        if features is None:
            return replace(self._fitted[0][0], threshold=self._threshold(0))
        novelty, own = _fit(features, labels)
        return replace(novelty, threshold=round(own * float(np.mean(self._ratios())), 6))

    def scores(self) -> dict:
        """development and held_out -> what `novelty_scores` returns for the main source's scans and all folds together.

        held_out.sources has, for each further source, scans and scans_refused.
        """
        figures = {}
        least = [self._threshold(k) for k in range(len(self._fitted))]
        for part in _PARTS:
            scans = pd.concat(
                [table.assign(score=table["score"] / t) for table, t in zip(self._scans[part], least, strict=True)]
            )
            others = pd.concat(self._others[part])
            others["score"] /= np.array(least)[others["fold"]]
            own = scans["source"] == self._main
            figures[part] = novelty_scores(scans.loc[own, "score"].to_numpy(), others)
            further = scans[~own].groupby("source")["score"]
            if part == "held_out" and len(further):
                figures[part]["sources"] = {
                    source: {"scans": len(found), "scans_refused": rounded(np.mean(found > 1))}
                    for source, found in further
                }
        return figures

    def _ratios(self) -> list[float]:
        """Of each fold's model: how much farther held-out scans lie than those it learned from."""
        tables = self._scans["held_out" if self._all_folds else "development"]
        return [
            float(np.quantile(table["score"], _ACCEPTED)) / own
            for table, (_, own) in zip(tables, self._fitted, strict=True)
        ]

    def _threshold(self, fold: int) -> float:
        ratios = self._ratios()
        used = ratios[:fold] + ratios[fold + 1 :] if self._all_folds else [ratios[fold]]
        return round(self._fitted[fold][1] * float(np.mean(used)), 6)


def _fit(features: np.ndarray, labels: Sequence[str]) -> tuple[Novelty, float]:
    novelty = fit_novelty(features, np.asarray(labels))
    return novelty, float(np.quantile(novelty.score(features), _ACCEPTED))


def fit_novelty(features: np.ndarray, labels: np.ndarray) -> Novelty:
    """Fit the score on training images, with a threshold of 1.

    Everything is rounded to multiples of a power of two, because libraries of linear algebra compute in an order that
    depends on the processor.

    Args:
        features: (n, features).
        labels: (n,) any; each distinct one is a class, partial labels included.
    """
    features = features.astype(np.float64)
    mean, scale = features.mean(axis=0), features.std(axis=0)
    # A channel that hardly varies in training would make any other value of it infinitely far.
    # Most of them may be such channels: behind a ReLU they are 0.
    scale = np.maximum(scale, max(np.median(scale) / 10, scale.max() / 1000)) + 1e-6
    mean, scale = _on_grid(mean), _on_grid(scale)
    standard = (features - mean) / scale
    _, codes = np.unique(labels, return_inverse=True)
    class_means = _on_grid(np.stack([standard[codes == i].mean(axis=0) for i in range(codes.max() + 1)]))
    covariance = LedoitWolf(assume_centered=True).fit(standard - class_means[codes]).covariance_
    whitening = _on_grid(np.linalg.cholesky(np.linalg.inv(covariance))).astype(np.float32)
    return Novelty(mean, scale, class_means, whitening, 1.0)


def _on_grid(values: np.ndarray) -> np.ndarray:
    """Rounded to multiples of a power of two, about 1/100,000 of the largest value."""
    step = 2.0 ** (math.ceil(math.log2(np.abs(values).max() or 1.0)) - 17)
    return np.round(values / step) * step


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
