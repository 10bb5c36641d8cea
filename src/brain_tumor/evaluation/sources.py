"""Scores of the other sources: each of their pictures counts once, and its label may leave several classes possible."""

import pandas as pd

from brain_tumor.evaluation.decisions import decide, decision_scores
from brain_tumor.evaluation.thresholds import HeldOut
from brain_tumor.metrics.scores import tumour_scores
from brain_tumor.prediction.tables import class_names, probabilities
from brain_tumor.tables.labels import common_label


def one_per_picture(frame: pd.DataFrame) -> pd.DataFrame:
    """The first file of each picture, with the label that all its files agree on.

    Args:
        frame: rows of predictions of one source with path, label and copies (name of the picture, or "").

    Returns:
        Rows of `frame`; pictures whose files contradict each other are left out.
    """
    picture = frame["copies"].where(frame["copies"] != "", frame["path"])
    label = frame["label"].groupby(picture).transform(lambda labels: common_label(labels.unique()))
    return frame.assign(label=label)[~picture.duplicated() & (label != "")].reset_index(drop=True)


def source_cohorts(name: str, tested: pd.DataFrame, first: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """The cohorts of a source that is learned from: all its pictures, and those that the main source does not have.

    Args:
        name: of the source.
        tested: rows of predictions of its test folds, with path, label, copies and group.
        first: the same for the main source.
    """
    rows = one_per_picture(tested)
    shared = rows["copies"].isin([*first["copies"], *first["path"]]) & (rows["copies"] != "")
    parts = {"": rows, "_own": rows[~shared].reset_index(drop=True)}
    return {f"source_{name}{part}": rows for part, rows in parts.items() if len(rows)}


def external_cohorts(name: str, frame: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """The cohorts of an external source: all pictures, those that share a picture or a patient with training, the rest.

    Args:
        name: of the source.
        frame: what `prediction.tables.load_external` returns.
    """
    pictures = one_per_picture(frame)
    shared = pictures["group"].isin(frame["group"][frame["group_in_training"]])
    parts = {"": pictures, "_shared": pictures[shared], "_clean": pictures[~shared]}
    return {f"external_{name}{part}": rows.reset_index(drop=True) for part, rows in parts.items() if len(rows)}


def partial_scores(frame: pd.DataFrame, held_out: HeldOut, min_class_images: int) -> dict:
    """Scores of a cohort with partial labels: nothing that needs to know the class.

    Args:
        frame: rows with label, probabilities, model_fold and group.
        held_out: thresholds of each network.
        min_class_images: as for `metrics.scores.tumour_scores`.

    Returns:
        n; n_<label>; tumour, see `metrics.scores.tumour_scores`; selective, see `decisions.decision_scores`, where an
        answer is wrong if the label excludes it.
    """
    names, healthy = class_names(frame), held_out.targets.healthy
    counts = frame["label"].value_counts().sort_index()
    figures = {"n": len(frame)} | {f"n_{label}": int(count) for label, count in counts.items()}
    if healthy in names and (
        found := tumour_scores(frame["label"], probabilities(frame), names, healthy, min_class_images, frame["group"])
    ):
        figures["tumour"] = found
    return figures | decision_scores(decide(frame, held_out), names, held_out)
