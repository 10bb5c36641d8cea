"""How well the source of an image can be told from the features of a network, within one side of the diagnosis."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import recall_score
from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from brain_tumor.metrics.bootstrap import interval
from brain_tumor.metrics.scores import tumour_side

_PARTS = 5
_LEAST = 2  # groups of either source that each part of the cross-validation needs


def source_probe(frames: Sequence[pd.DataFrame], features: Sequence[np.ndarray], main: str, healthy: str) -> dict:
    """Balanced accuracy of a linear probe that tells two sources apart among healthy scans, and among tumours.

    0.5 means that the features say nothing about the source; the nearer to 1, the easier a class that only one source
    has can be told by its source. A logistic regression is cross-validated on the test images of each network, which
    neither it nor the network has seen; pictures that stand in both sources are left out. The interval takes the
    probe as given and is slightly too narrow.

    Args:
        frames: for each network its test images: path, source, label, group and copies.
        features: (n, features) of the same rows.
        main: the main source.
        healthy: the class without a tumour.

    Returns:
        Source -> "healthy" and "tumour" -> n, n_main, balanced_accuracy with its 95 % interval over groups; a side
        with too few images has no figures.
    """
    results = {}
    for name in sorted(set().union(*(frame["source"] for frame in frames)) - {main}):
        for side in ("healthy", "tumour"):
            if found := _side(frames, features, main, name, side, healthy):
                results.setdefault(name, {})[side] = found
    return results


def _side(frames, features, main: str, name: str, side: str, healthy: str) -> dict:
    seen = []
    for frame, values in zip(frames, features, strict=True):
        of_side = np.array([tumour_side(label, healthy) == side for label in frame["label"]])
        rows = of_side & frame["source"].isin([main, name]).to_numpy()
        for key in (frame["group"], frame["copies"].where(frame["copies"] != "", frame["path"])):
            both = set(key[frame["source"] == main]) & set(key[frame["source"] == name])
            rows &= ~key.isin(both).to_numpy()
        part = frame[rows]
        other = (part["source"] == name).to_numpy().astype(int)
        fewest = min(part["group"][other == k].nunique() for k in (0, 1))
        parts = min(_PARTS, fewest // _LEAST)
        if parts < 2:
            continue
        probe = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, class_weight="balanced", max_iter=2000))
        folds = StratifiedGroupKFold(parts, shuffle=True, random_state=0)
        called = cross_val_predict(probe, values[rows].astype(np.float64), other, groups=part["group"], cv=folds)
        seen.append(pd.DataFrame({"actual": other, "called": called, "group": part["group"].to_numpy()}))
    if not seen:
        return {}
    table = pd.concat(seen)
    actual, called = table["actual"].to_numpy(), table["called"].to_numpy()
    low, high = interval(actual, called, table["group"].to_numpy(), 2)["balanced_accuracy"]
    score = recall_score(actual, called, average="macro")
    figures = {"n": int(actual.sum()), "n_main": int((1 - actual).sum())}
    return figures | {
        "balanced_accuracy": round(float(score), 4),
        "balanced_accuracy_ci_low": round(low, 4),
        "balanced_accuracy_ci_high": round(high, 4),
    }
