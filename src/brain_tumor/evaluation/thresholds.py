"""Calibration and thresholds of a network from predictions of images that it did not learn from.

The network that is served has learned from all patients, so none is left to set its thresholds. They come from the
predictions that the networks of the folds make for their test images, which are all patients; what such thresholds are
worth is measured by leaving out one fold in turn (cross-conformal prediction: Vovk, Ann. Math. Artif. Intell. 74, 2015;
Barber et al., Predictive inference with the jackknife+, Annals of Statistics 49, 2021).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import pandas as pd

from brain_tumor.exported.prediction_sets import conformal_thresholds
from brain_tumor.metrics.selective import abstention_threshold
from brain_tumor.networks.calibration import calibrated, fit_calibration
from brain_tumor.prediction.tables import SERVED, UNCALIBRATED, class_names, probabilities
from brain_tumor.tables.labels import allowed_classes

LEVELS = (90, 95)
"""Nominal coverage of the prediction sets, in percent."""
_STEP = 1e-6  # of thresholds: processors differ in further decimals


@dataclass(frozen=True)
class Targets:
    """What the answers are to keep, within each source.

    Attributes:
        error: largest share of wrong answers.
        miss: largest share of the tumours that may be answered with the healthy class.
        healthy: that class; "": there is none.
    """

    error: float
    miss: float
    healthy: str


@dataclass(frozen=True)
class Thresholds:
    """Attributes:
    scale, biases: the calibration, see `networks.calibration`.
    confidence: (classes,) smallest probability at which each class is answered; infinity: it never is.
    sets: level of `LEVELS` -> (classes,) smallest probability at which each class is in the prediction set.
    """

    scale: float
    biases: np.ndarray
    confidence: np.ndarray
    sets: dict[int, np.ndarray]

    def as_json(self) -> dict:
        """calibration, confidence (null for infinity) and sets, as `exported.classifier_file.Metadata` has them."""
        return {
            "calibration": {"scale": self.scale, "biases": self.biases.tolist()},
            "confidence": [value if math.isfinite(value) else None for value in self.confidence.tolist()],
            "sets": {str(level): least.tolist() for level, least in self.sets.items()},
        }


def fit_thresholds(
    uncalibrated: np.ndarray, allowed: np.ndarray, sources: np.ndarray, classes: Sequence[str], targets: Targets
) -> Thresholds:
    """Fit on images that the networks did not learn from.

    Of all thresholds that keep the targets within each source, and on all images together, the lowest are taken. A
    source with fewer images than one error in `targets.error` says nothing about the error by itself.

    Args:
        uncalibrated: (n, classes) probabilities.
        allowed: (n, classes) bool, the classes among which the true one is.
        sources: (n,) any.
        classes: names of the columns.
        targets: what to keep.
    """
    scale, biases = fit_calibration(uncalibrated, allowed)
    p = calibrated(uncalibrated, scale, biases)
    called, most = p.argmax(axis=1), p.max(axis=1)
    correct = allowed[np.arange(len(p)), called]
    parts = [np.ones(len(p), bool), *(sources == source for source in sorted(set(sources)))]
    given = np.ones(len(p), bool)
    healthy = list(classes).index(targets.healthy) if targets.healthy in classes else None
    if healthy is not None:
        tumour = ~allowed[:, healthy]
        wrongly = np.where(tumour & (called == healthy), p[:, healthy], 0.0)
        least_healthy = max(miss_threshold(wrongly[part], int(tumour[part].sum()), targets.miss) for part in parts)
        given = (called != healthy) | (most >= least_healthy)
    judged = [part[given] for part in parts[1:] if part.sum() * targets.error >= 1]
    least = abstention_threshold(_down(most[given]), correct[given], targets.error, judged)
    confidence = np.full(len(classes), least)
    if healthy is not None:
        confidence[healthy] = max(least, least_healthy)
    exact = allowed.sum(axis=1) == 1
    sets = {
        level: _down(conformal_thresholds(p[exact], allowed[exact].argmax(axis=1), 1 - level / 100)) for level in LEVELS
    }
    return Thresholds(scale, biases, confidence, sets)


def miss_threshold(wrongly: np.ndarray, tumours: int, target: float) -> float:
    """The lowest threshold on the healthy class that keeps the share of missed tumours within `target`.

    It keeps it in expectation for further tumours of the same kind: conformal risk control (Angelopoulos et al.,
    ICLR 2024), which counts one further tumour as missed. Of too few tumours for that, none may be missed.

    Args:
        wrongly: (n,) probability of the healthy class where a tumour is called healthy, 0 elsewhere.
        tumours: number of tumours among the n.
        target: largest share of the tumours.

    Example:
        >>> miss_threshold(np.array([0.9, 0.8, 0.6, 0, 0]), 99, 0.02)
        0.800001
    """
    may_be_missed = max(0, math.floor(target * (tumours + 1) + 1e-9) - 1)
    values = np.sort(wrongly)[::-1]
    most = values[may_be_missed] if may_be_missed < len(values) else 0.0
    return round(float(_down(most)) + _STEP, 6) if most > 0 else 0.0


class HeldOut:
    """The thresholds of each network, from predictions of images that it did not learn from and is not tested on.

    Args:
        predictions: rows of what `prediction.tables.load_predictions` returns, of all sources, with target: of the
            test folds if every fold is run, otherwise of the validation folds.
        all_folds: whether every fold is run. Then a network has the thresholds of the test images of all other folds,
            and the one that is served those of all folds; otherwise a network has those of its validation images, and
            the network that is served is that of the first fold.
        targets: see `fit_thresholds`.
    """

    def __init__(self, predictions: pd.DataFrame, all_folds: bool, targets: Targets) -> None:
        self.targets = targets
        self._rows = predictions[predictions["target"] != ""]
        self._all_folds = all_folds
        self.of = cache(self._of)

    def _of(self, fold: int) -> Thresholds:
        """The thresholds of the network of a fold, or of the one that is served (`prediction.tables.SERVED`)."""
        own = fold if fold != SERVED or self._all_folds else self._rows["model_fold"].iloc[0]
        same = self._rows["model_fold"] == own
        rows, names = self._rows[~same if self._all_folds else same], class_names(self._rows)
        allowed = allowed_classes(rows["target"], names)
        return fit_thresholds(
            probabilities(rows, UNCALIBRATED), allowed, rows["source"].to_numpy(), names, self.targets
        )


def _down(value: np.ndarray | float) -> np.ndarray:
    """Thresholds cut to `_STEP`."""
    return np.round(np.floor(np.asarray(value) / _STEP + 1e-3) * _STEP, 6)
