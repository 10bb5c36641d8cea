"""Decisions by thresholds from the validation images of a fold: abstention and prediction sets."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from brain_tumor.exported.prediction_sets import conformal_thresholds, prediction_sets
from brain_tumor.metrics.arrays import as_arrays
from brain_tumor.metrics.bootstrap import mean_interval
from brain_tumor.metrics.rounding import rounded
from brain_tumor.metrics.selective import abstention_threshold, risk_coverage, risk_coverage_area
from brain_tumor.prediction.tables import class_names, probabilities

LEVELS = (90, 95)
"""Nominal coverage of the prediction sets, in percent."""


@dataclass(frozen=True)
class Thresholds:
    """Thresholds from validation images.

    Attributes:
        confidence: smallest probability at which the model answers; infinity: it always abstains.
        sets: level of `LEVELS` -> (classes,) smallest probability at which each class is in the prediction set.
    """

    confidence: float
    sets: dict[int, np.ndarray]


def fit_thresholds(probabilities: np.ndarray, actual: np.ndarray, target_error: float) -> Thresholds:
    """Fit on validation images: (n, classes) probabilities and (n,) int classes; `target_error` as for `decide`."""
    correct = probabilities.argmax(axis=1) == actual
    return Thresholds(
        abstention_threshold(probabilities.max(axis=1), correct, target_error),
        {level: conformal_thresholds(probabilities, actual, 1 - level / 100) for level in LEVELS},
    )


def decide(frame: pd.DataFrame, validation: pd.DataFrame, target_error: float) -> pd.DataFrame:
    """Apply the thresholds of each model's validation images to its images.

    Args:
        frame: rows of what `prediction.tables.load_predictions` returns, of one cohort.
        validation: the same for the validation images of the same models.
        target_error: largest share of wrong answers, see `metrics.selective.abstention_threshold`.

    Returns:
        A row per row of `frame` with label, group (if there is one), confidence, correct and answered (bool), and
        set_<level>_<class> (bool: in the prediction set) per level and class.
    """
    names = class_names(frame)
    parts = []
    for fold, rows in frame.groupby("model_fold", sort=False):
        actual, predicted, values = as_arrays(rows["label"], probabilities(rows), names)
        thresholds = _model_thresholds(validation, fold, target_error)
        part = rows[rows.columns.intersection(["label", "group"])].assign(
            confidence=values.max(axis=1),
            correct=predicted == actual,
            answered=values.max(axis=1) >= thresholds.confidence,
        )
        for level, least in thresholds.sets.items():
            part[[f"set_{level}_{name}" for name in names]] = prediction_sets(values, least)
        parts.append(part)
    return pd.concat(parts).loc[frame.index]


def answered(frame: pd.DataFrame, validation: pd.DataFrame, target_error: float) -> np.ndarray:
    """(n,) bool, whether the models answer; arguments as for `decide`, whatever the labels of `frame`."""
    least = {fold: _model_thresholds(validation, fold, target_error).confidence for fold in set(frame["model_fold"])}
    return probabilities(frame).max(axis=1) >= frame["model_fold"].map(least).to_numpy()


def _model_thresholds(validation: pd.DataFrame, fold: int, target_error: float) -> Thresholds:
    own = validation[validation["model_fold"] == fold]
    actual, _, values = as_arrays(own["label"], probabilities(own), class_names(own))
    return fit_thresholds(values, actual, target_error)


def decision_scores(decided: pd.DataFrame, names: Sequence[str], target_error: float) -> dict:
    """Scores of what `decide` returns.

    Returns:
        selective: risk_coverage_area; target_error; coverage (share of the images that are answered); error of the
        answers, if there are any, with its 95 % interval if groups are known. conformal.coverage_<level>: coverage
        with its interval, mean_size, empty and single (shares of the sets) and per_class.<class>, coverage of the
        class.
    """
    groups = decided["group"].to_numpy() if "group" in decided else None
    correct, answered = decided["correct"].to_numpy(), decided["answered"].to_numpy()
    curve = risk_coverage(decided["confidence"].to_numpy(), correct)
    selective = {
        "risk_coverage_area": rounded(risk_coverage_area(curve)),
        "target_error": rounded(target_error),
        "coverage": rounded(answered.mean()),
    }
    if answered.any():
        selective |= _with_interval("error", ~correct[answered], groups if groups is None else groups[answered])
    conformal = {}
    for level in LEVELS:
        sets = decided[[f"set_{level}_{name}" for name in names]].to_numpy(dtype=bool)
        actual = decided["label"].map({name: i for i, name in enumerate(names)}).to_numpy()
        covered, sizes = sets[np.arange(len(sets)), actual], sets.sum(axis=1)
        conformal[f"coverage_{level}"] = _with_interval("coverage", covered, groups) | {
            "mean_size": rounded(sizes.mean()),
            "empty": rounded((sizes == 0).mean()),
            "single": rounded((sizes == 1).mean()),
            "per_class": {
                name: rounded(covered[actual == i].mean()) for i, name in enumerate(names) if (actual == i).any()
            },
        }
    return {"selective": selective, "conformal": conformal}


def _with_interval(name: str, values: np.ndarray, groups: np.ndarray | None) -> dict[str, float]:
    figures = {name: rounded(values.mean())}
    if groups is not None:
        figures |= zip((f"{name}_ci_low", f"{name}_ci_high"), map(rounded, mean_interval(values, groups)), strict=True)
    return figures
