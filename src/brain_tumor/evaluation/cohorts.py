"""Predictions of all folds in one table, and the groups of images a score is stated for."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from brain_tumor.errors import PipelineError
from brain_tumor.tables import read_table

DESCRIPTIONS = {
    "patient_test": "training pool; every image scored by the model that never saw its patient or a copy",
    "random_test": "training pool, split by image: a patient stands on both sides, so the score flatters",
    "own_test": "test folds as data/folds.csv brings them",
    "patient_known": "the part of the test folds whose patient is known",
    "official_test": "published test folder, scored by the model of the first fold",
    "official_leaked": "of official_test: same patient or same picture as a training image",
    "official_clean": "of official_test: no known patient and no picture shared with training",
}
"""Cohort name -> what it is, in a line."""

PROBABILITY = "p_"
UNCALIBRATED = "raw_"
"""How the columns of probabilities begin: as the network gives them, and as it gave them before its calibration."""


def load_predictions(predictions_folder: Path | str, folds_csv: Path | str, folds: Sequence[int]) -> pd.DataFrame:
    """Read the predictions of exactly the folds named and join what the split knows of each image.

    Args:
        predictions_folder: holds `fold-<k>.csv` with columns path, label, role, p_<class>... and raw_<class>...
        folds_csv: the split: a row per image with at least path, label, patient, group and fold.
        folds: folds to read, in this order; other files in the folder are left alone.

    Returns:
        A row per image and model: the columns of the predictions (probabilities float64), patient and group
        (str, patient "" where unknown), model_fold (int), and group_in_training (bool: an image of the same
        group stands in the training pool, whatever the fold and whichever folds were named).

    Raises:
        PipelineError: a file is missing, the files contradict each other or the split, or a probability is
            not a number between 0 and 1.
    """
    split = read_table(folds_csv)[["path", "label", "patient", "group", "fold"]]
    if split["path"].duplicated().any():
        raise PipelineError(
            f"expected one row per image in {folds_csv}, found repeated paths: run the split stage again"
        )
    trained = split.loc[split["fold"] != "", "group"]
    split["group_in_training"] = split["group"].isin(trained)

    tables = []
    for fold in folds:
        path = Path(predictions_folder) / f"fold-{fold}.csv"
        table = read_table(path).assign(model_fold=int(fold))
        if tables and class_names(table) != class_names(tables[0]):
            raise PipelineError(
                f"expected the classes {class_names(tables[0])} in {path} as in the first fold, found "
                f"{class_names(table)}: run the train and predict stages again for all folds"
            )
        values = probabilities(table)
        if not ((values >= 0) & (values <= 1)).all():
            raise PipelineError(
                f"expected probabilities between 0 and 1 in {path}, found others: "
                f"train fold {fold} again, with a lower learning rate if its loss diverged"
            )
        tables.append(table)
    frame = pd.concat(tables, ignore_index=True)

    frame = frame.merge(split.drop(columns="fold"), on=["path", "label"], how="left", indicator=True)
    strangers = frame.loc[frame.pop("_merge") != "both", "path"]
    if len(strangers):
        raise PipelineError(
            f"expected every predicted image in {folds_csv} with the same label, found {len(strangers)} others "
            f"(first: {strangers.iloc[0]}): run the train and predict stages again for this split"
        )
    if frame.loc[frame["role"] == "test", "path"].duplicated().any():
        raise PipelineError(
            "expected every image in the test fold of one model only, found some in several: "
            "name each fold once and run the predict stage again for this split"
        )
    return frame.astype({"group_in_training": bool})


def load_controls(folder: Path | str, frame: pd.DataFrame, folds: Sequence[int]) -> pd.DataFrame:
    """Read the predictions of changed images.

    Args:
        folder: holds `controls-<k>.csv` with columns path, label, role, control (what was changed) and
            p_<class>..., unless `predict.controls` is off.
        frame: what `load_predictions` returns.
        folds: folds to read.

    Returns:
        A row per image and control, with the group of the image and model_fold (int); without a row where there
        are no controls.
    """
    files = {fold: path for fold in folds if (path := Path(folder) / f"controls-{fold}.csv").exists()}
    if not files:
        return frame.head(0).assign(control="")
    table = pd.concat([read_table(path).assign(model_fold=fold) for fold, path in files.items()], ignore_index=True)
    return table.assign(group=table["path"].map(frame.drop_duplicates("path").set_index("path")["group"]))


def load_external(folder: Path | str, paths: Sequence[str], model_fold: int) -> dict[str, pd.DataFrame]:
    """Read the predictions of further data sets.

    Args:
        folder: holds `external-<i>.csv` for the i-th path, with the columns of `fold-<k>.csv`.
        paths: folders of the data sets, as evaluate.external names them.
        model_fold: of the model that predicted.

    Returns:
        external_<name of the folder> -> rows with model_fold. Patients are not known, so there is no group.

    Raises:
        PipelineError: two folders have the same name.
    """
    names = [f"external_{Path(path).resolve().name}" for path in paths]
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise PipelineError(f"expected folders of different names in evaluate.external, found {repeated[0]} twice")
    tables = [read_table(Path(folder) / f"external-{i}.csv") for i in range(len(paths))]
    return {name: table.assign(model_fold=model_fold) for name, table in zip(names, tables, strict=True)}


def class_names(frame: pd.DataFrame) -> list[str]:
    """The classes a table of predictions has probabilities for, in the order of its columns."""
    return [name.removeprefix(PROBABILITY) for name in frame.columns if name.startswith(PROBABILITY)]


def probabilities(frame: pd.DataFrame, kind: str = PROBABILITY) -> np.ndarray:
    """The (n, classes) float64 probabilities of a table of predictions, columns as in `class_names`."""
    columns = frame[[kind + name for name in class_names(frame)]]
    return columns.apply(pd.to_numeric, errors="coerce").to_numpy(dtype=np.float64)


def cohorts(frame: pd.DataFrame, strategy: str) -> dict[str, pd.DataFrame]:
    """The cohorts that scores are stated for; a cohort without an image is absent.

    Args:
        frame: what `load_predictions` returns.
        strategy: how the folds were drawn ("patient", "random", "official", "own").

    Returns:
        Name -> rows of `frame`, in this order:
        `<strategy>_test`: the test folds of all models, pooled; each image is in one of them.
        `patient_known`: those of them with a known patient.
        `official_test`: the published test folder as scored by the model of the first fold named, because one
            network is what the other cohorts measure too, not an average of several.
        `official_leaked`, `official_clean`: its images whose group is, or is not, in the training pool.
    """
    test = frame[frame["role"] == "test"]
    first = frame["model_fold"] == frame["model_fold"].iloc[0]
    official = frame[(frame["role"] == "official_test") & first]
    found = {
        f"{strategy}_test": test,
        "patient_known": test[test["patient"] != ""],
        "official_test": official,
        "official_leaked": official[official["group_in_training"]],
        "official_clean": official[~official["group_in_training"]],
    }
    return {name: part.reset_index(drop=True) for name, part in found.items() if len(part)}
