"""Groups of images that must not be separated: images of one patient, and copies of one picture."""

import re
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
    accepted = pairs[pairs["kind"] != LOOK_ALIKE]
    paths = index["path"].reset_index(drop=True)
    row = pd.Series(np.arange(len(paths)), index=paths)
    links = row[accepted["path"]].to_numpy(), row[accepted["other"]].to_numpy()
    facts = _facts(index, provenance).set_axis(paths.index)
    own_patients = own_patients.set_axis(paths.index)
    published = facts["group"]
    image = (facts["source"] + "/" + facts["source_slice"]).where(facts["source_slice"] != "", "")

    table = pd.DataFrame({"path": paths, "patient": own_patients.where(own_patients != "", published)})
    table["group"] = merge_groups(paths, [table["patient"], published, image], links)
    copies = pd.Series(merge_groups(paths, [image], links))
    table["copies"] = copies.where(copies.map(copies.value_counts()) > 1, "")
    known = table["patient"].ne("").groupby(table["group"]).transform("any")
    size = table.groupby("group")["path"].transform("size")
    table["kind"] = np.select([known, size > 1], ["patient", "copy"], "single")
    if (share := size.max() / len(table)) > max_share:
        largest = table["group"][size.idxmax()]
        raise PipelineError(
            f"expected no group of more than {max_share:.1%} of the images (audit.max_group_share), found one of "
            f"{size.max()} ({share:.1%}) around {largest!r}: look at it, then raise audit.similarity or this limit"
        )
    return table[GROUP_COLUMNS]


def known_patients(paths: pd.Series, table: pd.DataFrame, expression: str | None) -> pd.Series:
    """Patients that the user provides.

    Args:
        paths: of the images, relative to the root of the data set.
        table: columns path,patient, at most one patient per path.
        expression: regular expression that is searched for in each path that is not in the table; its first group (or
            the whole match) is the patient. None: only the table counts.

    Returns:
        (n,) str with the index of `paths`, "" if unknown.

    Raises:
        PipelineError: the table contains an unknown path or several patients for one path; the expression is invalid
            or matches no image.

    Example:
        >>> nothing = pd.DataFrame({"path": [], "patient": []}, dtype=str)
        >>> known_patients(pd.Series(["glioma/p01_2.png", "glioma/x.png"]), nothing, r"(p\\d+)_").tolist()
        ['p01', '']
    """
    if (several := table.groupby("path")["patient"].nunique() > 1).any():
        raise PipelineError(f"expected one patient per path in data/patients.csv, {several.idxmax()!r} has several")
    if unknown := sorted(set(table["path"]) - set(paths)):
        raise PipelineError(
            f"expected paths of the data set in data/patients.csv, {unknown[0]!r} is none "
            f"({len(unknown)} of {len(table)}): write them as in data/prepared/index.csv"
        )
    listed = dict(zip(table["path"], table["patient"], strict=True))
    patients = paths.map(lambda path: listed.get(path, ""))
    if expression is None:
        return patients
    try:
        pattern = re.compile(expression)
    except re.error as error:
        raise PipelineError(f"audit.patients {expression!r} is no valid expression: {error}") from error
    matches = paths.map(pattern.search)
    found = matches.map(lambda m: "" if m is None else (m.group(1) if pattern.groups else m.group(0)) or "")
    if (found == "").all():
        raise PipelineError(
            f"audit.patients {expression!r} gives no patient for any image, the first is {paths.iloc[0]!r}"
        )
    return patients.where(patients != "", found)


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


def _facts(index: pd.DataFrame, provenance: Path | str) -> pd.DataFrame:
    """Published facts of each image by its content; "" if there are none."""
    facts = read_table(provenance).drop_duplicates("sha256")[["sha256", "source", "source_slice", "group"]]
    return index[["sha256"]].merge(facts, on="sha256", how="left").fillna("")
