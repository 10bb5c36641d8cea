"""One recipe over several folds: how the folds agree, and what is left of the score where nothing was chosen."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from sklearn.metrics import f1_score

from brain_tumor.evaluation.calibration import cross_fitted
from brain_tumor.evaluation.cohorts import class_names, probabilities
from brain_tumor.evaluation.inputs import rounded


def fold_figures(frame: pd.DataFrame, searched: Sequence[int], min_class_images: int) -> dict:
    """Spread of the macro-F1 over the folds of a cohort.

    Args:
        frame: rows of what `cohorts.load_predictions` returns, of one cohort.
        searched: folds whose images served as validation when the recipe was searched.
        min_class_images: as for `metrics.cohort_metrics`; a fold that falls short has no macro-F1.

    Returns:
        folds (their number); macro_f1_fold_mean, _min and, from two folds on, _std (of the sample);
        macro_f1_unsearched, pooled over the folds that did not serve the search. What cannot be stated is absent.
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


def validation_figures(frame: pd.DataFrame, controls: pd.DataFrame, min_class_images: int) -> dict:
    """What a recipe is chosen by: the means over folds of validation macro-F1, as the images are and shifted.

    Args:
        frame: validation rows of what `cohorts.load_predictions` returns.
        controls: the same images as other scanners might show them, see `cohorts.load_controls`; may be empty.
        min_class_images: as for `metrics.cohort_metrics`.

    Returns:
        macro_f1; macro_f1_cross_fitted, where each image was calibrated by other patients than its own (macro_f1
        flatters a little: its images calibrated the network); macro_f1_shifted (mean over shifts and folds);
        shifted.<name> (mean over folds). What cannot be stated for every fold is absent.
    """

    def mean(part: pd.DataFrame) -> float | None:
        scores = [macro_f1(rows, min_class_images) for _, rows in part.groupby("model_fold")]
        return None if None in scores or not scores else rounded(np.mean(scores))

    figures = {"macro_f1": mean(frame)}
    if figures["macro_f1"] is not None:
        scores = [_cross_fitted(rows) for _, rows in frame.groupby("model_fold")]
        figures["macro_f1_cross_fitted"] = rounded(np.mean(scores))
    shifted = {name: mean(part) for name, part in controls.groupby("control", sort=False)}
    shifted = {name: score for name, score in shifted.items() if score is not None}
    if shifted:
        figures |= {"macro_f1_shifted": rounded(np.mean(list(shifted.values()))), "shifted": shifted}
    return {name: value for name, value in figures.items() if value is not None}


def _cross_fitted(frame: pd.DataFrame) -> float:
    truth = np.array([class_names(frame).index(label) for label in frame["label"]])
    fitted = cross_fitted(probabilities(frame), truth, frame["group"])
    return float(np.mean([f1_score(truth, values.argmax(axis=1), average="macro") for values in fitted]))


def macro_f1(frame: pd.DataFrame, min_class_images: int) -> float | None:
    """Macro-F1 of some predictions; None where a class has too few images."""
    names = class_names(frame)
    if frame["label"].value_counts().reindex(names, fill_value=0).min() < max(min_class_images, 1):
        return None
    predicted = np.array(names)[probabilities(frame).argmax(axis=1)]
    return rounded(f1_score(frame["label"], predicted, labels=names, average="macro", zero_division=0))
