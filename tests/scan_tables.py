"""Tables of made-up scans of one source, for the tests of groups, folds and findings."""

from collections import defaultdict
from pathlib import Path

import numpy as np
import pandas as pd

from brain_tumor.audit.findings import findings_table
from brain_tumor.audit.groups import group_table, published_facts
from brain_tumor.own_tables.patients import known_patients
from brain_tumor.split.folds import split_table

MAIN = "scans"
FOLDS = 5
NO_FACTS = pd.DataFrame(columns=["path", "sha256", "source", "source_slice", "patient", "group"], dtype=str)
NO_JOINS = pd.DataFrame(columns=["group", "joined"], dtype=str)


def random_data_set(seed: int, n: int = 900) -> tuple[pd.DataFrame, pd.DataFrame]:
    """An index as the store writes it, and published facts about some of its images.

    A patient has 1 to 20 images, mostly of one class; a quarter of the images has no known patient;
    some files stand twice or more, also across patients, classes and folders; some show the same source slice.
    """
    random = np.random.default_rng(seed)
    patients = np.repeat(np.arange(n), random.integers(1, 21, n))[:n]
    classes = np.array(["glioma", "healthy", "other one"])
    label = classes[random.choice(3, n, p=[0.5, 0.3, 0.2])[patients]]
    label = np.where(random.random(n) < 0.05, random.choice(classes, n), label)
    folder = np.where(random.random(n) < 0.12, "Testing", "Training")
    sha256 = np.array([f"{k:064x}" for k in np.where(random.random(n) < 0.015, random.integers(0, n, n), np.arange(n))])
    index = pd.DataFrame(
        {
            "row": np.arange(n),
            "path": [f"{MAIN}/{f}/{c}/{k}.png" for k, (f, c) in enumerate(zip(folder, label, strict=True))],
            "sha256": sha256,
            "source": MAIN,
            "label": label,
            "folder": folder,
        }
    )
    known = random.random(n) < 0.75
    slices = np.where(random.random(n) < 0.08, random.integers(0, 200, n).astype(str), "")
    facts = index[["path", "sha256"]].assign(
        source="hospital", source_slice=slices, patient="", group=np.where(known, [f"p{k}" for k in patients], "")
    )
    return index, facts.drop_duplicates("sha256")


def identical(index: pd.DataFrame) -> pd.DataFrame:
    """The pairs of byte-identical files, as the audit lists them."""
    first = index.groupby("sha256")["path"].transform("min")
    again = index["path"] != first
    pairs = pd.DataFrame({"path": first[again], "other": index["path"][again]})
    return pairs.assign(kind="identical", score=1.0, orientation="as_it_is")


def grouped(folder: Path, index: pd.DataFrame, facts: pd.DataFrame = NO_FACTS, expression=None, **options):
    """The groups of a data set whose only copies are byte-identical files."""
    facts.to_csv(folder / "facts.csv", index=False)
    own = known_patients(index["path"], pd.DataFrame(columns=["path", "patient"], dtype=str), expression, MAIN)
    options = {"max_share": 1.0} | options
    return group_table(index, identical(index), own, **options, provenance=folder / "facts.csv")


def findings(folder: Path, index: pd.DataFrame, facts: pd.DataFrame):
    """The groups and the findings of such a data set."""
    groups = grouped(folder, index, facts)
    known = published_facts(index, folder / "facts.csv")
    return groups, findings_table(index, identical(index), groups, known, MAIN)


def split(folder: Path, index: pd.DataFrame, facts: pd.DataFrame = NO_FACTS, expression=None, **options):
    """The folds of such a data set."""
    nothing = pd.DataFrame(columns=["path", "fold"], dtype=str)
    options = {
        "strategy": "patient",
        "folds": FOLDS,
        "seed": 0,
        "official_test": "Testing",
        "own_folds": nothing,
    } | options
    return split_table(index, grouped(folder, index, facts, expression), NO_JOINS, main=MAIN, **options)


def connected(n: int, keys: list[list[str]]) -> list[set[int]]:
    """Sets of images joined by shared keys; slow and plain."""
    parent = list(range(n))

    def find(i):
        while parent[i] != i:
            i = parent[i]
        return i

    for key in keys:
        first = {}
        for i, value in enumerate(key):
            if value != "":
                parent[find(i)] = find(first.setdefault(value, i))
    sets = defaultdict(set)
    for i in range(n):
        sets[find(i)].add(i)
    return sorted(sets.values(), key=min)


def pool(n: int = 60, folder: str = "Training", labels: str = "ab") -> pd.DataFrame:
    """Images that have nothing in common."""
    label = [labels[k % len(labels)] for k in range(n)]
    path = [f"{MAIN}/{folder}/{c}/{k:03}.png" for k, c in enumerate(label)]
    sha256 = [f"{folder}{k}" for k in range(n)]
    return pd.DataFrame({"path": path, "sha256": sha256, "source": MAIN, "label": label, "folder": folder})
