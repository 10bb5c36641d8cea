"""The findings of the audit as a table and as numbers."""

import pandas as pd

from brain_tumor.audit.copies import LOOK_ALIKE

FINDING_COLUMNS = ["kind", "path", "label", "other", "other_label", "score", "orientation"]
LABEL_CONFLICT, PATIENT_CONFLICT = "label_conflict", "patient_conflict"


def findings_table(index: pd.DataFrame, pairs: pd.DataFrame, groups: pd.DataFrame) -> pd.DataFrame:
    """Every finding of the audit.

    Args:
        index: index of the store: columns path and label.
        pairs: what `copies.find_copies` returns.
        groups: what `groups.group_table` returns.

    Returns:
        Columns `FINDING_COLUMNS`. Kinds:
        identical, copy: two files of the same picture; score is their similarity.
        label_conflict: two files of the same picture (directly or through further copies) in different classes; one
            row per file whose class is not the most frequent one of its picture, beside a file that has that class;
            score is the share of the picture's files in that class.
        patient_conflict: an image whose class is not the most frequent one of its patient, beside an image that has
            that class; score is the share of the patient's images in that class. One patient may have two tumours,
            so this is a doubt and not a proof.
        Copies are sorted by rising score (the least certain first), conflicts by falling score.
    """
    label = dict(zip(index["path"], index["label"], strict=True))
    accepted = pairs[pairs["kind"] != LOOK_ALIKE].sort_values(["kind", "score", "path", "other"])
    table = groups.assign(label=groups["path"].map(label))
    conflicts = [
        _minority(table[table["copies"] != ""], "copies", LABEL_CONFLICT),
        _minority(table[table["patient"] != ""], "patient", PATIENT_CONFLICT),
    ]
    found = pd.concat([*conflicts, accepted], ignore_index=True)
    found["label"], found["other_label"] = found["path"].map(label), found["other"].map(label)
    return found[FINDING_COLUMNS].fillna({"orientation": ""})


def audit_metrics(
    index: pd.DataFrame, findings: pd.DataFrame, groups: pd.DataFrame, fixed: pd.DataFrame
) -> dict[str, dict | int | float]:
    """The findings as nested dictionaries of numbers.

    Args:
        index: index of the store: columns path, sha256, label and folder.
        findings: what `findings_table` returns.
        groups: what `groups.group_table` returns.
        fixed: what `data/fixes.csv` changed: column action.

    Returns:
        n; byte_identical.{groups,images}; copies.{groups,images,largest}, byte-identical ones included;
        conflicts.{label,patient}, images; groups.{n,largest,largest_share}; share_without_patient;
        folders.<folder>.{n,with_copy_elsewhere,with_patient_elsewhere,copies.<class>} if the set has several
        folders: images that have a copy, or their patient, in another folder; fixes.{dropped,relabelled}.
    """
    contents = index.groupby("sha256")["path"].transform("size")
    size = groups["group"].value_counts()
    copies = groups.loc[groups["copies"] != "", "copies"].value_counts()
    kinds = findings["kind"].value_counts()
    figures = {
        "n": len(index),
        "byte_identical": {"groups": index["sha256"][contents > 1].nunique(), "images": int((contents > 1).sum())},
        "copies": {
            "groups": len(copies),
            "images": int(copies.sum()),
            "largest": int(copies.max() if len(copies) else 1),
        },
        "conflicts": {"label": int(kinds.get(LABEL_CONFLICT, 0)), "patient": int(kinds.get(PATIENT_CONFLICT, 0))},
        "groups": {"n": len(size), "largest": int(size.max()), "largest_share": round(size.max() / len(index), 6)},
        "share_without_patient": round(float((groups["patient"] == "").mean()), 6),
    }
    if index["folder"].nunique() > 1:
        figures["folders"] = _across_folders(index, groups)
    actions = fixed["action"].str.split(":").str[0].value_counts()
    figures["fixes"] = {"dropped": int(actions.get("drop", 0)), "relabelled": int(actions.get("relabel", 0))}
    return figures


def _across_folders(index: pd.DataFrame, groups: pd.DataFrame) -> dict[str, dict]:
    table = groups.assign(label=index["label"].to_numpy(), folder=index["folder"].to_numpy())

    def elsewhere(key: str) -> pd.Series:
        return (table.groupby(key)["folder"].transform("nunique") > 1) & (table[key] != "")

    table["copy"], table["same_patient"] = elsewhere("copies"), elsewhere("patient")
    result = {}
    for name, part in table.groupby("folder"):
        result[name or "."] = {
            "n": len(part),
            "with_copy_elsewhere": int(part["copy"].sum()),
            "with_patient_elsewhere": int(part["same_patient"].sum()),
            "copies": {label: int(count) for label, count in part.groupby("label")["copy"].sum().items()},
        }
    return result


def _minority(table: pd.DataFrame, key: str, kind: str) -> pd.DataFrame:
    """Images of another class than most images that share `key`, the largest majority first."""
    rows = []
    for _, part in table.groupby(key):
        counts = part["label"].value_counts()
        if len(counts) < 2:
            continue
        usual = min(counts[counts == counts.max()].index)
        other = part.loc[part["label"] == usual, "path"].min()
        share = counts.max() / len(part)
        rows += [(kind, path, other, share) for path in part.loc[part["label"] != usual, "path"]]
    found = pd.DataFrame(rows, columns=["kind", "path", "other", "score"])
    return found.sort_values(["score", "path"], ascending=[False, True])
