"""The findings of the audit as a table and as numbers."""

import pandas as pd

from brain_tumor.audit.copies import LOOK_ALIKE
from brain_tumor.tables.labels import allowed_classes, classes_in, common_label

FINDING_COLUMNS = ["kind", "path", "label", "other", "other_label", "score", "orientation"]
LABEL_CONFLICT, PATIENT_CONFLICT, SOURCE_CONFLICT = "label_conflict", "patient_conflict", "source_conflict"


def findings_table(
    index: pd.DataFrame, pairs: pd.DataFrame, groups: pd.DataFrame, facts: pd.DataFrame, main: str
) -> pd.DataFrame:
    """Every finding of the audit.

    Args:
        index: index of the store: columns path, source and label.
        pairs: what `copies.find_copies` returns, of all sources.
        groups: what `groups.group_table` and `groups.joined_groups` return, in the order of `index`.
        facts: what `groups.published_facts` returns for `index`.
        main: the main source, whose labels decide where sources contradict each other.

    Returns:
        Columns `FINDING_COLUMNS`. Kinds:
        identical, copy: two files of the same picture; score is their similarity.
        label_conflict: two files of the same picture (directly or through further copies) whose labels have no class
            in common; one row per file whose label excludes the class that most files of the picture leave possible,
            beside a file that it contradicts; score is the share of the picture's files that leave it possible.
        patient_conflict: the same for the images of a patient. One patient may have two tumours, so this is a doubt
            and not a proof.
        source_conflict: an image whose origin states another tumour type than its label; `other` is empty and
            `other_label` is the class that the origin states.
        Copies are sorted by rising score (the least certain first), conflicts by falling score.
    """
    label = dict(zip(index["path"], index["label"], strict=True))
    accepted = pairs[pairs["kind"] != LOOK_ALIKE].sort_values(["kind", "score", "path", "other"])
    table = groups.assign(label=index["label"].to_numpy(), main=(index["source"] == main).to_numpy())
    conflicts = [
        _minority(table.assign(picture=pictures(groups)), "picture", LABEL_CONFLICT),
        _minority(table[table["patient"] != ""], "patient", PATIENT_CONFLICT),
    ]
    found = pd.concat([*conflicts, accepted], ignore_index=True)
    found["label"], found["other_label"] = found["path"].map(label), found["other"].map(label)
    found = pd.concat([_contradicted_by_origin(index, facts), found], ignore_index=True)
    return found[FINDING_COLUMNS].fillna({"orientation": ""})


def pictures(groups: pd.DataFrame) -> pd.Series:
    """(n,) str, the name of the picture that each image shows."""
    return groups["copies"].where(groups["copies"] != "", groups["path"])


def audit_metrics(
    index: pd.DataFrame, findings: pd.DataFrame, groups: pd.DataFrame, fixed: pd.DataFrame
) -> dict[str, dict]:
    """The findings within and between sources as nested dictionaries of numbers.

    Args:
        index: index of the store: columns path, sha256, source, label and folder.
        findings: what `findings_table` returns.
        groups: what `groups.group_table` and `groups.joined_groups` return, in the order of `index`.
        fixed: what `data/fixes.csv` changed: columns path and action.

    Returns:
        Source -> n; byte_identical.{groups,images}; copies.{groups,images,largest}, byte-identical ones included;
        conflicts.{label,patient,source}, images; groups.{n,largest,largest_share}; share_without_patient;
        folders.<folder>.{n,with_copy_elsewhere,with_patient_elsewhere,copies.<class>} if the source has several
        folders: images that have a copy, or their patient, in another folder; fixes.{dropped,relabelled}, all of the
        source alone; shared.<other source>.{images,conflicts}, images that show a picture of the other source, and
        those of them whose label contradicts it.
    """
    figures = {}
    shown, source = pictures(groups), index["source"].to_numpy()
    origin = dict(zip(index["path"], source, strict=True))
    between = findings["path"].map(origin), findings["other"].map(origin)
    for name in dict.fromkeys(source):
        own = source == name
        within = findings[(between[0] == name) & ((between[1] == name) | (findings["other"] == ""))]
        changed = fixed[fixed["path"].str.startswith(f"{name}/")]
        figures[name] = _within_source(index[own], within, groups[own], changed)
        conflict = findings[(findings["kind"] == LABEL_CONFLICT) & (between[0] == name)]
        figures[name]["shared"] = {
            other: {
                "images": int(shown[own].isin(shown[source == other]).sum()),
                "conflicts": int((between[1][conflict.index] == other).sum()),
            }
            for other in dict.fromkeys(source)
            if other != name
        }
        if not figures[name]["shared"]:
            del figures[name]["shared"]
    return figures


def in_lines(figures: dict[str, dict]) -> list[str]:
    """What `audit_metrics` returns in short, for a terminal."""
    lines = []
    for source, found in figures.items():
        copies, conflicts = found["copies"], found["conflicts"]
        lines += [
            f"{source}: {copies['images']} of {found['n']} images show {copies['groups']} pictures several times",
            f"{source}: labels contradicted within a picture {conflicts['label']}, a patient {conflicts['patient']}",
        ]
        for name, part in found.get("folders", {}).items():
            lines.append(
                f"{source}: {part['with_copy_elsewhere']} of {part['n']} images of {name} have a copy elsewhere"
            )
        for other, part in found.get("shared", {}).items():
            lines.append(f"{source}: {part['images']} images show a picture of {other}")
    return lines


def _within_source(
    index: pd.DataFrame, findings: pd.DataFrame, groups: pd.DataFrame, fixed: pd.DataFrame
) -> dict[str, dict | int | float]:
    contents = index.groupby("sha256")["path"].transform("size")
    size, copies = groups["group"].value_counts(), pictures(groups).value_counts()
    copies, kinds = copies[copies > 1], findings["kind"].value_counts()
    figures = {
        "n": len(index),
        "byte_identical": {"groups": index["sha256"][contents > 1].nunique(), "images": int((contents > 1).sum())},
        "copies": {
            "groups": len(copies),
            "images": int(copies.sum()),
            "largest": int(copies.max() if len(copies) else 1),
        },
        "conflicts": {
            name: int(kinds.get(kind, 0))
            for name, kind in (("label", LABEL_CONFLICT), ("patient", PATIENT_CONFLICT), ("source", SOURCE_CONFLICT))
        },
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
    """Images that contradict others that share `key` and exclude their usual class, the largest majority first."""
    rows = []
    repeated = table.groupby(key)["path"].transform("size") > 1
    for _, part in table[repeated].sort_values("path").groupby(key):
        judges = part[part["main"]] if part["main"].any() else part
        names = classes_in(judges["label"])
        allowed = allowed_classes(judges["label"], names)
        usual = int(allowed.sum(axis=0).argmax())
        # An image is shown beside the first one that it contradicts, if possible one that leaves the usual class open.
        beside = pd.concat([judges[allowed[:, usual]], judges, part])[["path", "label"]].to_numpy()
        excluding = part[~allowed_classes(part["label"], names)[:, usual]]
        for row in excluding.itertuples():
            other = next((other for other, label in beside if common_label([row.label, label]) == ""), None)
            rows += [(kind, row.path, other, allowed[:, usual].mean())] if other else []
    found = pd.DataFrame(rows, columns=["kind", "path", "other", "score"])
    return found.sort_values(["score", "path"], ascending=[False, True])


def _contradicted_by_origin(index: pd.DataFrame, facts: pd.DataFrame) -> pd.DataFrame:
    """Images whose origin states a tumour type that their label leaves no room for."""
    # "glioma" of the origin is the class "glioma_tumor": the one class whose name contains it.
    classes, states = classes_in(index["label"]), {}
    for kind in set(facts["source_label"]) - {""}:
        named = [name for name in classes if kind in name.lower()]
        states |= {kind: named[0]} if len(named) == 1 else {}
    stated = [states.get(kind, "") for kind in facts["source_label"]]
    rows = [
        (SOURCE_CONFLICT, row.path, row.label, "", class_, 1.0)
        for row, class_ in zip(index.itertuples(), stated, strict=True)
        if class_ and common_label([row.label, class_]) == ""
    ]
    return pd.DataFrame(rows, columns=FINDING_COLUMNS[:6]).astype({"score": float}).sort_values("path")
