"""What the classifier answers, and how often it is right: abstention and prediction sets."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from brain_tumor.evaluation.thresholds import LEVELS, HeldOut
from brain_tumor.exported.prediction_sets import prediction_sets
from brain_tumor.exported.states import ANSWER, REFUSED, UNSURE, states
from brain_tumor.metrics.bootstrap import mean_interval
from brain_tumor.metrics.rounding import rounded
from brain_tumor.metrics.scores import tumour_side
from brain_tumor.metrics.selective import risk_coverage, risk_coverage_area
from brain_tumor.networks.calibration import calibrated
from brain_tumor.prediction.tables import UNCALIBRATED, class_names, probabilities
from brain_tumor.tables.labels import allowed_classes, is_exact


def decide(frame: pd.DataFrame, held_out: HeldOut) -> pd.DataFrame:
    """Answer as the classifier that is served would, with calibration and thresholds from other images than these.

    Args:
        frame: rows of what `prediction.tables.load_predictions` returns, of one cohort; labels may be partial.
        held_out: thresholds of each network.

    Returns:
        A row per row of `frame` with label, group (if there is one), called (class), confidence, correct (bool: the
        called class is among those that the label leaves possible), state (see `exported.states`), likely (bool: a
        possible class is among the two most probable ones), and set_<level>_<class> (bool: in the prediction set) per
        level and class.
    """
    names, parts = class_names(frame), []
    for fold, rows in frame.groupby("model_fold", sort=False):
        thresholds = held_out.of(fold)
        values = calibrated(probabilities(rows, UNCALIBRATED), thresholds.scale, thresholds.biases)
        allowed, called = allowed_classes(rows["label"], names), values.argmax(axis=1)
        two = np.argsort(-values, axis=1)[:, :2]
        part = rows[rows.columns.intersection(["label", "group"])].assign(
            called=np.array(names)[called],
            confidence=values.max(axis=1),
            correct=allowed[np.arange(len(rows)), called],
            state=states(values, thresholds.confidence),
            likely=np.take_along_axis(allowed, two, axis=1).any(axis=1),
        )
        for level, least in thresholds.sets.items():
            part[[f"set_{level}_{name}" for name in names]] = prediction_sets(values, least)
        parts.append(part)
    return pd.concat(parts).loc[frame.index]


def decision_scores(decided: pd.DataFrame, names: Sequence[str], held_out: HeldOut) -> dict:
    """Scores of what `decide` returns.

    Returns:
        selective: risk_coverage_area; target_error; coverage (share of the images that are answered); error of the
        answers, if there are any; target_miss and missed (tumours that are answered with the healthy class, as a share
        of all tumours), if there are tumours; unsure and no_answer (shares of the images), and unsure_likely (share of
        the unsure ones with the true class among the two named).
        conformal, if every label is a single class: coverage_<level>: coverage, mean_size, empty and single (shares of
        the sets) and per_class.<class>, coverage of the class.
        error, missed and coverage of sets have 95 % intervals if groups are known.
    """
    targets, groups = held_out.targets, decided["group"].to_numpy() if "group" in decided else None
    correct, state = decided["correct"].to_numpy(), decided["state"].to_numpy()
    answered, unsure = state == ANSWER, state == UNSURE
    selective = {
        "risk_coverage_area": rounded(risk_coverage_area(risk_coverage(decided["confidence"].to_numpy(), correct))),
        "target_error": rounded(targets.error),
        "coverage": rounded(answered.mean()),
        "unsure": rounded(unsure.mean()),
        "no_answer": rounded((state == REFUSED).mean()),
    }
    if unsure.any():
        selective["unsure_likely"] = rounded(decided["likely"].to_numpy()[unsure].mean())
    if answered.any():
        selective |= _with_interval("error", ~correct, groups, answered)
    tumour = np.array([tumour_side(label, targets.healthy) == "tumour" for label in decided["label"]])
    if targets.healthy in names and tumour.any():
        missed = answered & (decided["called"] == targets.healthy).to_numpy()
        selective |= {"target_miss": rounded(targets.miss)} | _with_interval("missed", missed, groups, tumour)
    if not decided["label"].map(is_exact).all():
        return {"selective": selective}
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


def _with_interval(
    name: str, values: np.ndarray, groups: np.ndarray | None, rows: np.ndarray | slice = slice(None)
) -> dict[str, float]:
    values = values[rows]
    figures = {name: rounded(values.mean())}
    if groups is not None:
        bounds = mean_interval(values, groups[rows])
        figures |= zip((f"{name}_ci_low", f"{name}_ci_high"), map(rounded, bounds), strict=True)
    return figures
