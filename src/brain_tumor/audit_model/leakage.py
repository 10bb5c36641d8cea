"""Leakage of a fold: held-out images with a copy or their patient in the training set."""

import numpy as np
import pandas as pd


def leakage_metrics(table: pd.DataFrame, role: np.ndarray) -> dict[str, dict]:
    """Count the held-out images of each role with a copy or their patient in the training set.

    Args:
        table: the split: label, patient, copies, group.
        role: (n,) str, what `tables.roles.roles` returns for one fold.

    Returns:
        Role -> n; copies and patients, the numbers of images that leak through a copy and through a known patient;
        patient_groups, the number of those patients; leaking, images that leak in any way, also through the copy of
        an image of the same patient; share, of `leaking` in n; per_class.<class>, leaking images of each class.
    """
    learned = table[role == "train"]

    def shared(part: pd.DataFrame, key: str) -> pd.Series:
        return part[key].isin(learned[key]) & (part[key] != "")

    figures = {}
    for name in ("test", "validation", "official_test"):
        part = table[role == name]
        if part.empty:
            continue
        patients, leaking = shared(part, "patient"), shared(part, "group")
        figures[name] = {
            "n": len(part),
            "copies": int(shared(part, "copies").sum()),
            "patients": int(patients.sum()),
            "patient_groups": int(part["patient"][patients].nunique()),
            "leaking": int(leaking.sum()),
            "share": round(float(leaking.mean()), 6),
            "per_class": {label: int(count) for label, count in leaking.groupby(part["label"]).sum().items()},
        }
    return figures
