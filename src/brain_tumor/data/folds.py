"""Who is trained on, who is judged: folds that no patient group crosses, and what leaks where one does."""

import numpy as np
import pandas as pd
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

from brain_tumor.errors import PipelineError
from brain_tumor.tables import read_table

FOLD_COLUMNS = ["path", "sha256", "label", "folder", "patient", "copies", "group", "fold"]

# What a split of the user may say instead of a number; fold 0 is the test of `train.folds: [0]`.
_PARTS = {"test": "0", "validation": "1", "train": "2"}


def split_table(
    index: pd.DataFrame,
    groups: pd.DataFrame,
    *,
    strategy: str,
    folds: int,
    seed: int,
    official_test: str,
    file: str | None = None,
) -> pd.DataFrame:
    """Assign every image of the training pool to a fold.

    Args:
        index: index of the store, a row an image.
        groups: what the audit merged: path, group, patient, copies; see `audit.groups.group_table`.
        strategy: "patient" keeps every group within one fold; "official" does the same (its folds
            serve as validation only, see `roles`); "random" ignores the groups and so leaks; "file" takes the
            folds as the user brings them.
        folds: number of folds.
        seed: of the assignment.
        official_test: name of the folder that is never trained on; "" or one that is absent means none.
        file: under "file", a CSV file path,fold for the images of the pool: fold is 0 to folds - 1, or test,
            validation, train (folds 0, 1, 2).

    Returns:
        Columns `FOLD_COLUMNS`, in the order of `index`. `patient` and `copies` are "" where unknown and where there
        are none. `group` is the unit of splitting. `fold` is 0 to folds - 1, or "" for the images of `official_test`.

    Raises:
        PipelineError: a class has too few images or groups to be in every fold, or the user's split does not
            fit the data.
    """
    table = index[["path", "sha256", "label", "folder"]].merge(
        groups[["path", "group", "patient", "copies"]], on="path", how="left", validate="one_to_one"
    )
    if (lost := table["group"].isna()).any():
        raise PipelineError(
            f"expected every image in data/audit/groups.csv, {table['path'][lost].iloc[0]!r} is not there: "
            "run the audit stage again"
        )
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
    if strategy == "file":
        table.loc[pool, "fold"] = _read_folds(table.loc[pool, "path"], file, folds)
    else:
        # Sorted by path, so that the folds depend on what the images are and not on the order they came in.
        ordered = table[pool].sort_values("path")
        table.loc[ordered.index, "fold"] = [str(k) for k in _assign(ordered, folds, seed, grouped=strategy != "random")]
    return table[FOLD_COLUMNS]


def roles(table: pd.DataFrame, fold: int, strategy: str, on_leak: str) -> np.ndarray:
    """What each image is to the model of fold `fold`.

    With fold k as test, the next one is validation and the rest training. Under the strategy
    "official" the test is the published folder, fold k is validation and the rest training.

    Args:
        table: what `split_table` returns.
        fold: number of the fold.
        strategy: as for `split_table`.
        on_leak: "drop" leaves out training images whose group is also judged, and validation images whose
            group is also tested; "report" and "fail" leave them where they are.

    Returns:
        (n,) str: "train", "validation", "test", "official_test" or "left_out".
    """
    folds = sorted({int(f) for f in table["fold"] if f != ""})
    if fold not in folds:
        raise PipelineError(f"expected folds among {folds}, received train.folds with {fold}: change it or split.folds")
    validation = fold if strategy == "official" else (fold + 1) % len(folds)
    names = {"": "official_test"} | {str(k): "train" for k in folds}
    if strategy != "official":
        names[str(fold)] = "test"
    names[str(validation)] = "validation"
    role = table["fold"].map(names).to_numpy(dtype=str)
    if on_leak == "drop":
        order = _order(strategy)
        for place, name in enumerate(order):
            judged_before = table["group"].isin(table["group"][np.isin(role, order[:place])])
            role[(role == name) & judged_before.to_numpy()] = "left_out"
        for name in order:
            if not (role == name).any():
                raise PipelineError(
                    f"split.on_leak 'drop' leaves no {name} image in fold {fold}: bring a split that leaks less"
                )
    return role


def leaks(table: pd.DataFrame, role: np.ndarray, strategy: str) -> pd.DataFrame:
    """Images that are judged although an image of their group is learned from.

    Args:
        table: what `split_table` returns.
        role: what `roles` returns.
        strategy: as for `split_table`; under all but "official" the published folder is an exhibit and no leak.

    Returns:
        Columns path, role, other, other_role, by: `by` is "copy" where both show one picture, else "patient". One
        row per image, beside the first of its group that is learned from (or, for a test image, validated
        with), a copy if there is one.
    """
    order = _order(strategy)
    rows = []
    place = pd.Series([order.index(name) if name in order else -1 for name in role], index=table.index)
    parts = table.assign(place=place, role=role)[place >= 0]
    mixed = parts.groupby("group")["place"].transform("nunique") > 1
    for _, members in parts[mixed].sort_values("path").groupby("group"):
        for image in members[members["place"] < len(order) - 1].itertuples():
            later = members[members["place"] > image.place]
            if later.empty:
                continue
            copies = later[(later["copies"] == image.copies) & (image.copies != "")]
            other = (copies if len(copies) else later).iloc[0]
            rows.append((image.path, image.role, other["path"], other["role"], "copy" if len(copies) else "patient"))
    return pd.DataFrame(rows, columns=["path", "role", "other", "other_role", "by"])


def _order(strategy: str) -> list[str]:
    """Roles from what is judged last to what is learned from."""
    return ["official_test" if strategy == "official" else "test", "validation", "train"]


def _read_folds(paths: pd.Series, file: str | None, folds: int) -> pd.Series:
    if file is None:
        raise PipelineError("split.strategy 'file' needs split.file, a CSV file path,fold: name it")
    given = read_table(file)
    if not {"path", "fold"} <= set(given.columns):
        raise PipelineError(f"expected the columns path,fold in {file!r}, found {','.join(given.columns)}")
    if (again := given["path"].duplicated()).any():
        raise PipelineError(f"expected each path once in {file!r}, found {given['path'][again].iloc[0]!r} again")
    fold = paths.map(given.set_index("path")["fold"].replace(_PARTS))
    if fold.isna().any():
        raise PipelineError(
            f"expected every image of the pool in {file!r}, {paths[fold.isna()].iloc[0]!r} and "
            f"{int(fold.isna().sum()) - 1} others are missing: add them, or drop them in data/fixes.csv"
        )
    expected = {str(k) for k in range(folds)}
    if set(fold) != expected:
        raise PipelineError(
            f"expected the folds {sorted(expected, key=int)} (split.folds = {folds}) or test, validation, train "
            f"in {file!r}, found {sorted(set(fold))}: change the file or split.folds"
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
