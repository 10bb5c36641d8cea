"""Images of further sources: the fold that each belongs to, and what is learned from it.

The folds of the main source stay as they are. An image whose group shares a picture or a patient with the main source
goes to the fold of those images; one that would bring two folds together is left out of all. Nothing whose group
touches the published test folder is ever learned from, and a picture that stands in several files is learned from
once.
"""

import numpy as np
import pandas as pd

from brain_tumor.tables.labels import common_label


def further_folds(
    table: pd.DataFrame, joins: pd.DataFrame, main: str, folds: int, seed: int, *, grouped: bool
) -> pd.Series:
    """The fold of every image, those of the main source as they are.

    Args:
        table: path, source, label, group and fold, which is set for the main source and "" elsewhere.
        joins: see `audit.groups.joined_groups`.
        main: the main source.
        folds: number of folds.
        seed: of the assignment of groups that share nothing with the main source.
        grouped: whether groups are kept together; if not, every image of a further source is assigned by itself.

    Returns:
        (n,) str: the fold; "" also for images of further sources whose group joins two folds.
    """
    fold, first = table["fold"].copy(), table["source"] == main
    pool = table[first & (table["fold"] != "")]
    own = pool.groupby("group")["fold"].agg(lambda values: sorted(set(values)))
    joined = joins.groupby("group")["joined"].agg(list) if grouped else {}
    placed = {}  # a group may have images of several further sources
    for _, rows in table[~first].groupby("source"):
        units = rows["group"] if grouped else rows["path"]
        near = {
            unit: sorted({k for name in joined.get(unit, []) for k in own.get(name, [])}) for unit in units.unique()
        }
        near |= {unit: [placed[unit]] for unit in near if unit in placed}
        settled = units.map({unit: found[0] if len(found) == 1 else "" for unit, found in near.items()})
        free = rows[units.map(near).map(len) == 0]
        fold[rows.index] = settled
        fold[free.index] = _stratified(free["label"], units[free.index], folds, seed)
        placed |= dict(zip(units[free.index], fold[free.index], strict=True))
    return fold


def targets(table: pd.DataFrame, joins: pd.DataFrame, main: str) -> pd.Series:
    """The label that each image is learned with.

    Args:
        table: path, source, label, group, copies and fold.
        joins: see `audit.groups.joined_groups`.
        main: the main source.

    Returns:
        (n,) str. For the main source what all files of the picture agree on, and the image's own label if they
        contradict each other. For further sources the same, but "" if the files contradict each other, for an image
        without a fold, for one whose group touches the published test folder, for a picture that the main source has
        in its pool, and for all but the first file of a picture.
    """
    first = table["source"] == main
    picture = table["copies"].where(table["copies"] != "", table["path"])
    agreed = table["label"].groupby(picture).transform(lambda labels: common_label(labels.unique()))
    official = set(table["group"][first & (table["fold"] == "")])
    touching = set(joins["group"][joins["joined"].isin(official)]) | official
    learned = (
        (table["fold"] != "")
        & ~table["group"].isin(touching)
        & ~picture.isin(picture[first & (table["fold"] != "")])
        & ~picture.where(~first, table["path"]).duplicated()
    )
    return agreed.where(first | learned, "").where(~first | (agreed != ""), table["label"])


def _stratified(labels: pd.Series, units: pd.Series, folds: int, seed: int) -> pd.Series:
    """Assign units to folds, the largest first, each to the fold with the fewest images of its label."""
    # Not scikit-learn's StratifiedGroupKFold: a source may have fewer groups of a label than there are folds.
    rng, counts = np.random.default_rng(seed), {}
    fold = pd.Series("", index=labels.index)
    members = units.groupby(units).groups
    for unit in sorted(rng.permutation(sorted(members)), key=lambda unit: -len(members[unit])):
        label = min(labels[members[unit]].mode())
        full = counts.setdefault(label, np.zeros(folds, int))
        k = int(full.argmin())
        full[k] += len(members[unit])
        fold[members[unit]] = str(k)
    return fold
