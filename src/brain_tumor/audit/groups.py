"""Groups of images that must not be separated: images of one patient, and copies of one picture.

The groups of the main source follow from its own images alone, so that its folds stay as they are whatever is added.
The images of further sources form groups of their own, which may join one group of the main source or several.
"""

from pathlib import Path

import numpy as np
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from brain_tumor.audit.copies import LOOK_ALIKE
from brain_tumor.errors import PipelineError
from brain_tumor.tables.csv_tables import read_table

# Source slice, patient and patient group of the images of the Kaggle set that could be matched with
# the figshare set of Cheng et al. (doi 10.6084/m9.figshare.1512427); see ATTRIBUTION.md.
PROVENANCE = Path(__file__).with_name("provenance.csv")

GROUP_COLUMNS = ["path", "group", "kind", "patient", "copies"]


def group_table(
    index: pd.DataFrame,
    pairs: pd.DataFrame,
    own_patients: pd.Series,
    *,
    max_share: float,
    provenance: Path | str = PROVENANCE,
) -> pd.DataFrame:
    """Merge known patients and copies into groups that no split may separate.

    Args:
        index: index of the store: columns path and sha256.
        pairs: what `copies.find_copies` returns.
        own_patients: (n,) str, patients that the user provides, "" if unknown; they are merged with the published
            ones and never separate them.
        max_share: largest share of the images that one group may have.
        provenance: table sha256,source,source_slice,group of published facts about images.

    Returns:
        Columns `GROUP_COLUMNS`, in the order of `index`. `group` and `copies` are named by their lowest path;
        `copies` is "" for an image without a copy. `kind` is "patient" if the patient of any image of the group is
        known, else "copy", or "single" for a group of one image. `patient` is "" if unknown.

    Raises:
        PipelineError: a group is larger than `max_share`: a chain of look-alikes, or a wrong patient.
    """
    links = _links(index["path"], pairs)
    table, keys, image = _keys(index, own_patients, provenance)
    paths = table["path"]
    table["group"] = merge_groups(paths, keys, links)
    copies = pd.Series(merge_groups(paths, [image], links))
    table["copies"] = copies.where(copies.map(copies.value_counts()) > 1, "")
    return _checked(table, max_share)


def joined_groups(
    index: pd.DataFrame,
    pairs: pd.DataFrame,
    own_patients: pd.Series,
    known: pd.DataFrame,
    *,
    max_share: float,
    provenance: Path | str = PROVENANCE,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Groups of further images, which leave those of the known images as they are.

    Args:
        index: index of the known images followed by the further ones: columns path and sha256.
        pairs: pairs with a further image, see `copies.find_copies`.
        own_patients: as for `group_table`, of all images.
        known: what `group_table` returned for the leading rows, and this function for images added since.
        max_share, provenance: as for `group_table`.

    Returns:
        The rows of `GROUP_COLUMNS` of the further images, and the table of what they join: columns group, joined
        (a known group), sorted. Images that share a picture or a patient with exactly one known group get its name as
        their `group`; otherwise they keep one of their own, because known groups are never merged. `copies` is the name
        of the known picture (its own `copies`, or else its path) that a further image shows, if any.

    Raises:
        PipelineError: as for `group_table`.
    """
    n = len(known)
    a, b = _links(index["path"], pairs)
    table, keys, image = _keys(index, own_patients, provenance)
    further = table.iloc[n:].reset_index(drop=True)
    inside = (a >= n) & (b >= n)
    links, paths = (a[inside] - n, b[inside] - n), further["path"]
    group = pd.Series(merge_groups(paths, [key.iloc[n:].reset_index(drop=True) for key in keys], links))
    copies = pd.Series(merge_groups(paths, [image.iloc[n:].reset_index(drop=True)], links))
    picture = known["copies"].where(known["copies"] != "", known["path"])

    joins = _joins(group, known["group"], n, (a, b), keys)
    shown = _joins(copies, picture, n, (a, b), [image]).drop_duplicates("group")
    shown = dict(zip(shown["group"], shown["joined"], strict=True))
    alone = joins[~joins["group"].duplicated(keep=False)]
    single = dict(zip(alone["group"], alone["joined"], strict=True))
    sizes = copies.value_counts()
    further["copies"] = [shown.get(name, name if sizes[name] > 1 else "") for name in copies]
    further["group"] = [single.get(name, name) for name in group]
    joins["group"] = [single.get(name, name) for name in joins["group"]]
    # Several groups may have got the name of the one known group that they all join.
    joins = joins.drop_duplicates().sort_values(["group", "joined"], ignore_index=True)
    return _checked(further, max_share, len(index)), joins


def joined_through(joins: pd.DataFrame, known: pd.DataFrame) -> pd.DataFrame:
    """`joins`, and what the joined groups join themselves according to `known`: both columns group, joined."""
    further = joins.merge(known, left_on="joined", right_on="group", suffixes=("", "_of"))
    further = pd.DataFrame({"group": further["group"], "joined": further["joined_of"]})
    return pd.concat([joins, further]).drop_duplicates().sort_values(["group", "joined"], ignore_index=True)


def _joins(
    group: pd.Series, known: pd.Series, n: int, links: tuple[np.ndarray, np.ndarray], keys: list[pd.Series]
) -> pd.DataFrame:
    """Which groups of further images are linked to, or share a value of a key with, which `known` groups."""
    low, high = np.minimum(*links), np.maximum(*links)
    across = (low < n) & (high >= n)
    tables = [pd.DataFrame({"group": group.to_numpy()[high[across] - n], "joined": known.to_numpy()[low[across]]})]
    for key in keys:
        old = pd.DataFrame({"key": key.iloc[:n].to_numpy(), "joined": known.to_numpy()})
        new = pd.DataFrame({"key": key.iloc[n:].to_numpy(), "group": group.to_numpy()})
        new = new[new["key"] != ""].drop_duplicates()
        tables.append(new.merge(old.drop_duplicates(), on="key")[["group", "joined"]])
    return pd.concat(tables).drop_duplicates().sort_values(["group", "joined"], ignore_index=True)


def _links(paths: pd.Series, pairs: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """The rows of the two images of each accepted pair."""
    accepted, row = pairs[pairs["kind"] != LOOK_ALIKE], pd.Series(np.arange(len(paths)), index=paths)
    return row[accepted["path"]].to_numpy(), row[accepted["other"]].to_numpy()


def _keys(
    index: pd.DataFrame, own_patients: pd.Series, provenance: Path | str
) -> tuple[pd.DataFrame, list[pd.Series], pd.Series]:
    """A table of path and patient, the keys that images of a group share, and the key of copies."""
    paths = index["path"].reset_index(drop=True)
    facts = published_facts(index, provenance).set_axis(paths.index)
    own_patients = own_patients.set_axis(paths.index)
    image = (facts["source"] + "/" + facts["source_slice"]).where(facts["source_slice"] != "", "")
    table = pd.DataFrame({"path": paths, "patient": own_patients.where(own_patients != "", facts["group"])})
    return table, [table["patient"], facts["group"], image], image


def _checked(table: pd.DataFrame, max_share: float, images: int | None = None) -> pd.DataFrame:
    """Add the kind of each group and refuse one that is larger than `max_share` of the images."""
    known = table["patient"].ne("").groupby(table["group"]).transform("any")
    size = table.groupby("group")["path"].transform("size")
    table["kind"] = np.select([known, size > 1], ["patient", "copy"], "single")
    if (share := size.max() / (images or len(table))) > max_share:
        largest = table["group"][size.idxmax()]
        raise PipelineError(
            f"expected no group of more than {max_share:.1%} of the images (audit.max_group_share), found one of "
            f"{size.max()} ({share:.1%}) around {largest!r}: look at it, then raise audit.similarity or this limit"
        )
    return table[GROUP_COLUMNS]


def merge_groups(paths: pd.Series, keys: list[pd.Series], links: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """Join images that share a value in any of `keys` or are linked, through any number of steps.

    Args:
        paths: (n,) names of the images.
        keys: each (n,) str; "" is no key.
        links: two (m,) int, rows of images that belong together.

    Returns:
        (n,) str: the lowest path of each image's group.
    """
    n = len(paths)
    images, nodes = [links[0]], [links[1]]
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


def published_facts(index: pd.DataFrame, provenance: Path | str = PROVENANCE) -> pd.DataFrame:
    """Published facts of each image by its content: source, source_slice, group, source_label; "" if there are none."""
    columns = ["sha256", "source", "source_slice", "group", "source_label"]
    facts = read_table(provenance).drop_duplicates("sha256").reindex(columns=columns, fill_value="")
    return index[["sha256"]].merge(facts, on="sha256", how="left").fillna("")
