"""Folds that no patient group crosses, or folds that the user provides."""

import numpy as np
import pandas as pd
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

from brain_tumor.errors import PipelineError
from brain_tumor.own_tables.spelling import spelled_as
from brain_tumor.split.sources import further_folds, targets

FOLD_COLUMNS = ["path", "sha256", "source", "label", "folder", "patient", "copies", "group", "fold", "target"]

# What the user may write instead of a number; fold 0 is the test set of `run.folds: [0]`.
_PARTS = {"test": "0", "validation": "1", "train": "2"}


def split_table(
    index: pd.DataFrame,
    groups: pd.DataFrame,
    joins: pd.DataFrame,
    *,
    main: str,
    strategy: str,
    folds: int,
    seed: int,
    official_test: str,
    own_folds: pd.DataFrame,
) -> pd.DataFrame:
    """Assign every image of the training pool to a fold.

    Args:
        index: index of the store, a row an image.
        groups: path, group, patient, copies; see `audit.groups.group_table`.
        joins: groups of further sources and the groups of the main one that they join; see
            `audit.groups.joined_groups`.
        main: the main source. Its folds do not depend on the others.
        strategy: "patient" keeps every group within one fold; "official" does the same (its folds only serve as
            validation sets, see `tables.roles`); "random" ignores the groups and therefore leaks; "own" takes the
            folds that the user provides.
        folds: number of folds.
        seed: of the assignment.
        official_test: name of the folder of the main source that is never trained on; "": none.
        own_folds: under "own", columns path,fold for the images of the main source's pool: fold is 0 to folds - 1, or
            test, validation, train (folds 0, 1, 2).

    Returns:
        Columns `FOLD_COLUMNS`, in the order of `index`. `patient` is "" if unknown, `copies` if there are none. `group`
        is the unit of splitting. `fold` is 0 to folds - 1, or "" for the images of `official_test` and for those of
        further sources that would bring two folds together. `target` is the label to learn: what all files of the
        picture agree on; "" if the image is never learned from, see `split.sources`.

    Raises:
        PipelineError: a class has too few images or groups to be in every fold, or the user's split does not
            fit the data.

    Example:
        >>> paths = [f"{label}/{i}.png" for label in ("glioma", "none") for i in range(6)]
        >>> labels = [path.split("/")[0] for path in paths]
        >>> index = pd.DataFrame({"path": paths, "sha256": paths, "source": "", "label": labels, "folder": ""})
        >>> patients = [f"{label} {i % 6 // 2}" for i, label in enumerate(labels)]  # two slices each
        >>> groups = pd.DataFrame({"path": paths, "group": patients, "patient": patients, "copies": ""})
        >>> joins = pd.DataFrame(columns=["group", "joined"])
        >>> options = {"strategy": "patient", "folds": 3, "seed": 0, "official_test": "", "own_folds": None}
        >>> table = split_table(index, groups, joins, main="", **options)
        >>> int(table.groupby("patient")["fold"].nunique().max())
        1
    """
    every = index[["path", "sha256", "source", "label", "folder"]].merge(
        groups[["path", "group", "patient", "copies"]], on="path", how="left", validate="one_to_one"
    )
    if (lost := every["group"].isna()).any():
        raise PipelineError(
            f"expected every image in data/audit/groups.csv, {every['path'][lost].iloc[0]!r} is not there: "
            "run the audit stage again"
        )
    table = every[every["source"] == main].copy()
    pool = (table["folder"].str.split("/").str[-1] != official_test) | (official_test == "")
    if strategy == "official" and pool.all():
        raise PipelineError(
            f"split.strategy 'official' needs the folder split.official_test = {official_test!r}, there is none: "
            "choose another strategy or folder"
        )
    if unlearned := sorted(set(table["label"]) - set(table["label"][pool])):
        raise PipelineError(
            f"expected every class outside {official_test!r}, {unlearned[0]!r} has 0 images there: a network cannot "
            "learn it; add images or remove the class"
        )
    table["fold"] = ""
    if strategy == "own":
        table.loc[pool, "fold"] = _own_folds(table.loc[pool, "path"], own_folds, folds)
    else:
        # Sorted by path, so that the folds depend on what the images are and not on the order they came in.
        ordered = table[pool].sort_values("path")
        table.loc[ordered.index, "fold"] = [str(k) for k in _assign(ordered, folds, seed, grouped=strategy != "random")]
    every["fold"] = table["fold"].reindex(every.index, fill_value="")
    every["fold"] = further_folds(every, joins, main, folds, seed, grouped=strategy != "random")
    every["target"] = targets(every, joins, main)
    return every[FOLD_COLUMNS]


def _own_folds(paths: pd.Series, own: pd.DataFrame, folds: int) -> pd.Series:
    own = own.assign(path=spelled_as(own["path"], paths))
    if (again := own["path"].duplicated()).any():
        raise PipelineError(f"expected each path once in data/folds.csv, found {own['path'][again].iloc[0]!r} again")
    fold = paths.map(own.set_index("path")["fold"].replace(_PARTS))
    if fold.isna().any():
        raise PipelineError(
            f"expected every image of the pool in data/folds.csv, {paths[fold.isna()].iloc[0]!r} and "
            f"{int(fold.isna().sum()) - 1} others are missing: add them, or drop them in data/fixes.csv"
        )
    expected = {str(k) for k in range(folds)}
    if set(fold) != expected:
        raise PipelineError(
            f"expected the folds {sorted(expected, key=int)} (split.folds = {folds}) or test, validation, train "
            f"in data/folds.csv, found {sorted(set(fold))}: change the table or split.folds"
        )
    return fold


def _assign(pool: pd.DataFrame, folds: int, seed: int, grouped: bool) -> np.ndarray:
    labels, units = pool["label"], pool["group"] if grouped else pool["path"]
    available = units.groupby(labels).nunique()
    if (available < folds).any():
        label = available.idxmin()
        raise PipelineError(
            f"expected at least split.folds = {folds} {'patient groups' if grouped else 'images'} in every class, "
            f"{label!r} has {available[label]}: lower split.folds or add data"
        )
    if grouped:
        parts = StratifiedGroupKFold(folds, shuffle=True, random_state=seed).split(pool, labels, units)
    else:
        parts = StratifiedKFold(folds, shuffle=True, random_state=seed).split(pool, labels)
    fold = np.empty(len(pool), int)
    for k, (_, members) in enumerate(parts):
        fold[members] = k
    counts = pd.crosstab(fold, labels.to_numpy())
    if len(empty := np.argwhere(counts.to_numpy() == 0)):
        k, label = counts.index[empty[0, 0]], counts.columns[empty[0, 1]]
        raise PipelineError(f"no image of {label!r} came into fold {k}: lower split.folds or change split.seed")
    return fold
