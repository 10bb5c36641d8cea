"""The tables of predictions: one row per image and model, with a probability per class."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from brain_tumor.errors import PipelineError
from brain_tumor.tables.csv_tables import read_table

PROBABILITY = "p_"
"""Prefix of the columns of probabilities, after calibration."""
UNCALIBRATED = "raw_"
"""Prefix of the columns of probabilities before calibration."""
SERVED = -1
"""The `model_fold` of the network that is served."""


def load_predictions(
    predictions_folder: Path | str, folds_csv: Path | str, folds: Sequence[int], source: str
) -> pd.DataFrame:
    """Read the predictions of the given folds for the images of a source and join what the split says about them.

    Args:
        predictions_folder: holds `fold-<k>.csv` with columns path, source, label, role, p_<class>... and
            raw_<class>...
        folds_csv: the split, see `split.folds.split_table`.
        folds: folds to read, in this order; other files in the folder are ignored.
        source: name of the source.

    Returns:
        A row per image and model: the columns of the predictions (probabilities float64), patient, copies, group and
        target (str, "" if unknown or none), model_fold (int), and group_in_training (bool: an image of the same group
        is in the training pool, in whichever fold).

    Raises:
        PipelineError: a file is missing, the files contradict each other or the split, or a probability is
            not a number between 0 and 1.
    """
    tables = []
    for fold in folds:
        path = Path(predictions_folder) / f"fold-{fold}.csv"
        table = read_table(path).assign(model_fold=int(fold))
        if tables and class_names(table) != class_names(tables[0]):
            raise PipelineError(
                f"expected the classes {class_names(tables[0])} in {path} as in the first fold, found "
                f"{class_names(table)}: run the train and predict stages again for all folds"
            )
        _check_probabilities(table, path)
        tables.append(table)
    frame = pd.concat(tables, ignore_index=True)
    frame = _with_split(frame[frame["source"] == source], folds_csv)
    if frame.loc[frame["role"] == "test", "path"].duplicated().any():
        raise PipelineError(
            "expected every image in the test fold of one model only, found some in several: "
            "name each fold once and run the predict stage again for this split"
        )
    return frame


def held_out_part(strategy: str, all_folds: bool) -> str:
    """The part of the predictions that thresholds come from: "test" where every fold is run, otherwise "validation".

    Where the published test folder is the test set ("official"), the validation folds are all of the training pool.
    """
    return "test" if all_folds and strategy != "official" else "validation"


def held_out_predictions(
    folder: Path | str, folds_csv: Path | str, folds: Sequence[int], sources: Sequence[str], part: str
) -> pd.DataFrame:
    """Read the predictions of one part of several sources: arguments and columns as for `load_predictions`."""
    frame = pd.concat([load_predictions(folder, folds_csv, folds, name) for name in sources], ignore_index=True)
    return frame[frame["role"] == part].reset_index(drop=True)


def load_served(path: Path | str, folds_csv: Path | str) -> pd.DataFrame:
    """Read what the network that is served predicts for images of the split; columns as from `load_predictions`."""
    table = read_table(path).assign(model_fold=SERVED)
    _check_probabilities(table, path)
    return _with_split(table, folds_csv)


def _check_probabilities(table: pd.DataFrame, path: Path | str) -> None:
    values = probabilities(table)
    if not ((values >= 0) & (values <= 1)).all():
        raise PipelineError(
            f"expected probabilities between 0 and 1 in {path}, found others: "
            "train this network again, with a lower learning rate if its loss diverged"
        )


def _with_split(frame: pd.DataFrame, folds_csv: Path | str) -> pd.DataFrame:
    split = read_table(folds_csv)[["path", "label", "patient", "copies", "group", "fold", "target"]]
    if split["path"].duplicated().any():
        raise PipelineError(
            f"expected one row per image in {folds_csv}, found repeated paths: run the split stage again"
        )
    trained = split.loc[(split["fold"] != "") & (split["target"] != ""), "group"]
    split["group_in_training"] = split["group"].isin(trained)
    frame = frame.reset_index(drop=True).merge(
        split.drop(columns="fold"), on=["path", "label"], how="left", indicator=True
    )
    unexpected = frame.loc[frame.pop("_merge") != "both", "path"]
    if len(unexpected):
        raise PipelineError(
            f"expected every predicted image in {folds_csv} with the same label, found {len(unexpected)} others "
            f"(first: {unexpected.iloc[0]}): run the train and predict stages again for this split"
        )
    return frame.astype({"group_in_training": bool})


def load_controls(folder: Path | str, frame: pd.DataFrame, folds: Sequence[int]) -> pd.DataFrame:
    """Read the predictions of perturbed images.

    Args:
        folder: holds `controls-<k>.csv` with columns path, label, role, control (name of the perturbation) and
            p_<class>..., unless `predict.controls` is off.
        frame: what `load_predictions` returns.
        folds: folds to read.

    Returns:
        A row per image and control, with the group of the image and model_fold (int); no rows if there are no
        controls.
    """
    files = {fold: path for fold in folds if (path := Path(folder) / f"controls-{fold}.csv").exists()}
    if not files:
        return frame.head(0).assign(control="")
    table = pd.concat([read_table(path).assign(model_fold=fold) for fold, path in files.items()], ignore_index=True)
    return table.assign(group=table["path"].map(frame.drop_duplicates("path").set_index("path")["group"]))


def load_external(folder: Path | str, shared_csv: Path | str, folds_csv: Path | str, source: str) -> pd.DataFrame:
    """Read the predictions of an external source, and which of its images share something with those learned from.

    Args:
        folder: holds `<source>.csv`, with the columns of `fold-<k>.csv`.
        shared_csv: what the audit found: path, copies, group and joined, a row per joined group, see
            `audit.groups.joined_groups`.
        folds_csv: the split, see `split.folds.split_table`.
        source: name of the source.

    Returns:
        A row per image: the columns of the predictions, model_fold (`SERVED`), copies (name of its picture), group,
        and group_in_training (bool: it shares a picture or a patient with the training pool, in whichever fold).
    """
    split, shared = read_table(folds_csv), read_table(shared_csv)
    shared = shared[shared["source"] == source]
    trained = split.loc[(split["fold"] != "") & (split["target"] != ""), "group"]
    touching = shared.loc[shared["joined"].isin(trained), "path"]
    frame = read_table(Path(folder) / f"{source}.csv")
    about = shared.drop_duplicates("path")[["path", "copies", "group"]]
    frame = frame.merge(about, on="path", how="left", validate="one_to_one")
    return frame.assign(model_fold=SERVED, group_in_training=frame["path"].isin(touching))


def class_names(frame: pd.DataFrame) -> list[str]:
    """The classes that a table of predictions has probabilities for, in the order of its columns.

    Example:
        >>> class_names(pd.DataFrame(columns=["path", "p_glioma", "p_no_tumor", "raw_glioma", "raw_no_tumor"]))
        ['glioma', 'no_tumor']
    """
    return [name.removeprefix(PROBABILITY) for name in frame.columns if name.startswith(PROBABILITY)]


def probabilities(frame: pd.DataFrame, kind: str = PROBABILITY) -> np.ndarray:
    """The (n, classes) float64 probabilities of a table of predictions, columns as in `class_names`."""
    columns = frame[[kind + name for name in class_names(frame)]]
    return columns.apply(pd.to_numeric, errors="coerce").to_numpy(dtype=np.float64)
