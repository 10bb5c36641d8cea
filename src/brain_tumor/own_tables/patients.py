"""Patients that the user knows, from a table or from the names of the files.

A patient that is written in two ways would be two patients, and stand on two sides of a split.
"""

import re
import unicodedata

import pandas as pd

from brain_tumor.errors import PipelineError
from brain_tumor.own_tables.spelling import alike, plain, spelled_as

UNKNOWN = (
    *("", "-", "--", "?", ".", "n/a", "n.a.", "na", "nan", "none", "null", "nil", "unknown", "unk", "missing"),
    *("#n/a", "<na>", "not available", "anonymous", "anonymized", "anonymised"),
)
"""Ways to write that the patient is unknown, in small or capital letters."""


def known_patients(paths: pd.Series, table: pd.DataFrame, expression: str | None, main: str = "") -> pd.Series:
    """Patients that the user provides.

    Args:
        paths: of the images; each begins with the name of its source.
        table: columns path,patient, at most one patient per path.
        expression: regular expression that is searched for in each path that is not in the table, without the name of
            the source; its first group (or the whole match) is the patient. None: only the table counts.
        main: the main source. Another one may number its patients in the same way, so what the expression finds there
            is preceded by the name of the source.

    Returns:
        (n,) str with the index of `paths`: as `_written` spells them, "" if unknown.

    Raises:
        PipelineError: the table contains an unknown path or several patients for one path; the expression is invalid
            or matches no image; two patients differ by capital letters or separators only.

    Example:
        >>> nothing = pd.DataFrame({"path": [], "patient": []}, dtype=str)
        >>> paths = pd.Series(["a/glioma/p01_2.png", "a/glioma/x.png", "b/glioma/p01_1.png"])
        >>> known_patients(paths, nothing, r"(p\\d+)_", main="a").tolist()
        ['p01', '', 'b/p01']
    """
    table = table.assign(path=spelled_as(table["path"], paths), patient=table["patient"].map(_written))
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
        return _told_apart(patients)
    try:
        pattern = re.compile(expression)
    except re.error as error:
        raise PipelineError(f"audit.patients {expression!r} is no valid expression: {error}") from error
    parts = paths.str.partition("/")
    matches = parts[2].map(pattern.search)
    found = matches.map(lambda m: "" if m is None else _written(m.group(1 if pattern.groups else 0) or ""))
    found = (parts[0] + "/").where((parts[0] != main) & (found != ""), "") + found
    if (found == "").all():
        raise PipelineError(
            f"audit.patients {expression!r} gives no patient for any image: make it match the path below the "
            f"source's folder, which for the first image is {parts[2].iloc[0]!r}"
        )
    return _told_apart(patients.where(patients != "", found))


def apart_by_zeros(patients: pd.Series) -> list[str]:
    """The patients that differ by leading zeros only, each set of them in one text.

    Example:
        >>> apart_by_zeros(pd.Series(["12", "0012", "b/7", "7", "70", ""]))
        ["'0012', '12'"]
    """
    found = alike(set(patients) - {""}, lambda patient: re.sub(r"(?<!\d)0+(?=\d)", "", _key(patient)))
    return [", ".join(names) for names in found]


def _written(patient: str) -> str:
    """A patient without what cannot be seen: the same characters for the same letters, single spaces between them."""
    visible = (c for c in unicodedata.normalize("NFKC", patient) if c.isspace() or unicodedata.category(c)[0] != "C")
    patient = " ".join("".join(visible).split())
    return "" if patient.casefold() in UNKNOWN else patient


def _told_apart(patients: pd.Series) -> pd.Series:
    """`patients`, unless two of them are probably one."""
    if found := alike(set(patients) - {""}, _key):
        raise PipelineError(
            f"expected the same patient to be written the same everywhere, found {', '.join(found[0])}"
            f"{f' and {len(found) - 1} more such sets' if len(found) > 1 else ''}: write them alike in "
            "data/patients.csv, or so that they differ by more than capital letters, separators or '.0'"
        )
    return patients


def _key(patient: str) -> str:
    return re.sub(r"(\d)\.0+$", r"\1", plain(patient))  # a spreadsheet program took a number for a measure
