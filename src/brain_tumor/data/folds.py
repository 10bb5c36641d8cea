"""Who may be trained on together: patient groups, and folds that no group crosses."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

from brain_tumor.errors import PipelineError
from brain_tumor.tables import read_table

# Source slice, patient and patient group of the images of the Kaggle set that could be matched with
# the figshare set of Cheng et al. (doi 10.6084/m9.figshare.1512427); see ATTRIBUTION.md.
PROVENANCE = Path(__file__).with_name("provenance.csv")

FOLD_COLUMNS = ["path", "sha256", "label", "folder", "patient", "group", "fold"]


def split_table(
    index: pd.DataFrame,
    *,
    strategy: str,
    folds: int,
    seed: int,
    official_test: str,
    groups: str | None = None,
    provenance: Path | str = PROVENANCE,
) -> pd.DataFrame:
    """Assign every image of the training pool to a fold.

    Args:
        index: index of the store, a row an image.
        strategy: "patient" keeps every group within one fold; "official" does the same (its folds
            serve as validation only, see `roles`); "random" ignores the groups and so leaks.
        folds: number of folds.
        seed: of the assignment.
        official_test: name of the folder that is never trained on; "" or one that is absent means none.
        groups: own patients, see `known_patients`.
        provenance: table sha256,source,source_slice,group of published facts about images.

    Returns:
        Columns `FOLD_COLUMNS`, in the order of `index`. `patient` is "" where unknown. `group` is the
        unit of splitting. `fold` is 0 to folds - 1, or "" for the images of `official_test`.

    Raises:
        PipelineError: a class has too few images or groups to be in every fold.
    """
    table = index[["path", "sha256", "label", "folder"]].copy()
    facts = _facts(index, provenance)
    published = table["patient"] = facts["group"].set_axis(table.index)
    if groups:
        own = known_patients(table["path"], groups)
        table["patient"] = own.where(own != "", published)
    image = (facts["source"] + "/" + facts["source_slice"]).where(facts["source_slice"] != "", "")
    table["group"] = merge_groups(table["path"], [table["patient"], published, table["sha256"], image])
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
    # Sorted by path, so that the folds depend on what the images are and not on the order they came in.
    ordered = table[pool].sort_values("path")
    table.loc[ordered.index, "fold"] = [str(k) for k in _assign(ordered, folds, seed, grouped=strategy != "random")]
    return table[FOLD_COLUMNS]


def roles(table: pd.DataFrame, fold: int, strategy: str) -> np.ndarray:
    """What each image is to the model of fold `fold`.

    With fold k as test, the next one is validation and the rest training. Under the strategy
    "official" the test is the published folder, fold k is validation and the rest training.

    Returns:
        (n,) str: "train", "validation", "test" or "official_test".
    """
    folds = sorted({int(f) for f in table["fold"] if f != ""})
    if fold not in folds:
        raise PipelineError(f"expected folds among {folds}, received train.folds with {fold}: change it or split.folds")
    validation = fold if strategy == "official" else (fold + 1) % len(folds)
    names = {"": "official_test"} | {str(k): "train" for k in folds}
    if strategy != "official":
        names[str(fold)] = "test"
    names[str(validation)] = "validation"
    return table["fold"].map(names).to_numpy(dtype=str)


def known_patients(paths: pd.Series, groups: str) -> pd.Series:
    """Patients of own data.

    Args:
        paths: of the images, relative to the root of the data set.
        groups: a CSV file with the columns path,patient, or a regular expression that is searched in
            each path; its first group (or the whole match) is the patient.

    Returns:
        (n,) str with the index of `paths`, "" where nothing is known.

    Raises:
        PipelineError: the file is missing or lacks a column, the expression is no valid one, or
            no image is matched.
    """
    if groups.endswith(".csv"):
        if not Path(groups).is_file():
            raise PipelineError(f"expected split.groups to name a CSV file path,patient; {groups!r} does not exist")
        try:
            own = pd.read_csv(groups, dtype=str, keep_default_na=False)
        except ValueError as error:  # empty, no text, or rows of different lengths
            raise PipelineError(
                f"expected a CSV file path,patient in {groups!r}: {' '.join(str(error).split())}"
            ) from error
        if not {"path", "patient"} <= set(own.columns):
            raise PipelineError(f"expected the columns path,patient in {groups!r}, found {','.join(own.columns)}")
        if (several := own.groupby("path")["patient"].nunique() > 1).any():
            raise PipelineError(f"expected one patient per path in {groups!r}, {several.idxmax()!r} has several")
        patient = dict(zip(own["path"], own["patient"], strict=True))
        patients = paths.map(lambda path: patient.get(path, ""))
    else:
        try:
            pattern = re.compile(groups)
        except re.error as error:
            raise PipelineError(
                f"split.groups {groups!r} is neither a .csv file nor a valid expression: {error}"
            ) from error
        matches = paths.map(pattern.search)
        patients = matches.map(lambda m: "" if m is None else (m.group(1) if pattern.groups else m.group(0)) or "")
    if (patients == "").all():
        raise PipelineError(f"split.groups {groups!r} gives no patient for any image, the first is {paths.iloc[0]!r}")
    return patients


def merge_groups(paths: pd.Series, keys: list[pd.Series]) -> np.ndarray:
    """Join images that share a value in any of `keys`, over any number of steps.

    Args:
        paths: (n,) names of the images.
        keys: each (n,) str; "" is no key.

    Returns:
        (n,) str: the lowest path of the group each image belongs to.
    """
    n = len(paths)
    images, nodes = [], []
    offset = n
    for key in keys:
        codes, values = pd.factorize(key)
        present = np.flatnonzero((key != "").to_numpy())
        images.append(present)
        nodes.append(codes[present] + offset)
        offset += len(values)
    rows, columns = np.concatenate(images), np.concatenate(nodes)
    graph = coo_array((np.ones(len(rows), np.int8), (rows, columns)), shape=(offset, offset))
    component = connected_components(graph, directed=False)[1][:n]
    return paths.groupby(component).transform("min").to_numpy(dtype=str)


def _facts(index: pd.DataFrame, provenance: Path | str) -> pd.DataFrame:
    """Published facts of each image by its content; "" where there are none."""
    facts = read_table(provenance).drop_duplicates("sha256")[["sha256", "source", "source_slice", "group"]]
    return index[["sha256"]].merge(facts, on="sha256", how="left").fillna("")


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
