"""One recipe over several folds: spread of the score, and scores that the search for the recipe did not touch."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from sklearn.metrics import f1_score

from brain_tumor.metrics.rounding import rounded
from brain_tumor.networks.calibration import calibrated, fit_calibration
from brain_tumor.prediction.tables import class_names, probabilities

_SEED = 0


def fold_scores(frame: pd.DataFrame, searched: Sequence[int], min_class_images: int) -> dict:
    """Spread of the macro-F1 over the folds of a cohort.

    Args:
        frame: rows of what `prediction.tables.load_predictions` returns, of one cohort.
        searched: folds whose images were validation images in the search for the recipe.
        min_class_images: as for `metrics.scores.cohort_metrics`; a fold that falls short has no macro-F1.

    Returns:
        folds (their number); macro_f1_fold_mean, _min and, from two folds on, _std (of the sample);
        macro_f1_unsearched, pooled over the other folds. Scores that cannot be stated are absent.
    """
    scores = {fold: macro_f1(part, min_class_images) for fold, part in frame.groupby("model_fold")}
    stated = [score for score in scores.values() if score is not None]
    figures = {"folds": len(scores)}
    if len(stated) == len(scores):
        figures["macro_f1_fold_mean"] = rounded(np.mean(stated))
        figures["macro_f1_fold_min"] = min(stated)
        if len(stated) > 1:
            figures["macro_f1_fold_std"] = rounded(np.std(stated, ddof=1))
    unsearched = macro_f1(frame[~frame["model_fold"].isin(searched)], min_class_images)
    return figures if unsearched is None else figures | {"macro_f1_unsearched": unsearched}


def validation_scores(frame: pd.DataFrame, controls: pd.DataFrame, min_class_images: int) -> dict:
    """What a recipe is chosen by: means over folds of the validation macro-F1, on the original and the shifted images.

    Args:
        frame: validation rows of what `prediction.tables.load_predictions` returns.
        controls: the same images under simulated shift, see `prediction.tables.load_controls`; may be empty.
        min_class_images: as for `metrics.scores.cohort_metrics`.

    Returns:
        macro_f1; macro_f1_cross_fitted, where each image is calibrated by other patients than its own (macro_f1 is
        slightly too high, because its images calibrated the network); macro_f1_shifted (mean over shifts and folds);
        shifted.<name> (mean over folds). Scores that cannot be stated for every fold are absent.
    """

    def mean(part: pd.DataFrame) -> float | None:
        scores = [macro_f1(rows, min_class_images) for _, rows in part.groupby("model_fold")]
        return None if None in scores or not scores else rounded(np.mean(scores))

    figures = {"macro_f1": mean(frame)}
    if figures["macro_f1"] is not None:
        scores = [_cross_fitted_f1(rows) for _, rows in frame.groupby("model_fold")]
        figures["macro_f1_cross_fitted"] = rounded(np.mean(scores))
    shifted = {name: mean(part) for name, part in controls.groupby("control", sort=False)}
    shifted = {name: score for name, score in shifted.items() if score is not None}
    if shifted:
        figures |= {"macro_f1_shifted": rounded(np.mean(list(shifted.values()))), "shifted": shifted}
    return {name: value for name, value in figures.items() if value is not None}


def cross_fitted(probabilities: np.ndarray, labels: np.ndarray, groups: np.ndarray, halvings: int = 10) -> np.ndarray:
    """Probabilities of each image under calibrations that were fitted on other patients.

    The groups are split into halves at random, and each half is calibrated by the other one. This also undoes a
    calibration that was fitted on the same images, because calibrations form a group.

    Args:
        probabilities: (n, classes).
        labels: (n,) int.
        groups: (n,) any, patient group of each image.
        halvings: number of random splits.

    Returns:
        (halvings, n, classes).
    """
    _, codes = np.unique(groups, return_inverse=True)
    rng, truth = np.random.default_rng(_SEED), np.eye(probabilities.shape[1], dtype=bool)[labels]
    results = np.empty((halvings, *probabilities.shape))
    for result in results:
        half = (rng.permutation(codes.max() + 1) % 2)[codes]
        for own in (0, 1):
            fitted = fit_calibration(probabilities[half != own], truth[half != own])
            result[half == own] = calibrated(probabilities[half == own], *fitted)
    return results


def _cross_fitted_f1(frame: pd.DataFrame) -> float:
    truth = np.array([class_names(frame).index(label) for label in frame["label"]])
    fitted = cross_fitted(probabilities(frame), truth, frame["group"])
    return float(np.mean([f1_score(truth, values.argmax(axis=1), average="macro") for values in fitted]))


def macro_f1(frame: pd.DataFrame, min_class_images: int) -> float | None:
    """Macro-F1 of a table of predictions; None if a class has too few images."""
    names = class_names(frame)
    if frame["label"].value_counts().reindex(names, fill_value=0).min() < max(min_class_images, 1):
        return None
    predicted = np.array(names)[probabilities(frame).argmax(axis=1)]
    return rounded(f1_score(frame["label"], predicted, labels=names, average="macro", zero_division=0))
