"""How much of what a model is judged on it has, in another picture or another slice, learned from."""

import numpy as np
import pandas as pd


def leakage_metrics(table: pd.DataFrame, role: np.ndarray) -> dict[str, dict]:
    """Count, for every role that is judged, the images with a copy or their patient among the training images.

    Args:
        table: the split: label, patient, copies, group.
        role: (n,) str, what `folds.roles` returns for one fold.

    Returns:
        Role -> n; copies and patients, the images that leak through a copy and through a known patient;
        patient_groups, the number of those patients; leaking, images that leak in any way, also over the copy of
        an image of the same patient; share; per_class.<class>, leaking images.
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
