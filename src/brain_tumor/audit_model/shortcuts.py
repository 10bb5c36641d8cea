"""Shortcuts: how well the class can be predicted without the disease, from traits of the file or without the brain."""

import numpy as np
import pandas as pd
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import recall_score

from brain_tumor.audit.traits import KINDS
from brain_tumor.metrics.bootstrap import interval
from brain_tumor.prediction.tables import class_names, probabilities
from brain_tumor.progress import bar

_MOST_DRAWN = 10_000  # images a tree learns from: a forest takes no more memory and time for more


def predict_from_traits(traits: pd.DataFrame, folds: pd.DataFrame, seed: int = 0) -> dict[str, pd.DataFrame]:
    """Predict the class of every image of the training pool from traits of its file, in the pool's own folds.

    A random forest (200 trees, classes balanced) per fold is fitted on the other folds.

    Args:
        traits: what `audit.reading.read_views` returns: path and the columns in `traits.KINDS`.
        folds: the split: path, label, group and fold; rows of fold "" are left out.

    Returns:
        Kind of trait, and "all" of them -> columns label, predicted, group of the pool.
    """
    table = folds[folds["fold"] != ""].merge(traits, on="path", validate="one_to_one")
    kinds = {**KINDS, "all": [name for names in KINDS.values() for name in names]}
    result = {}
    for kind, columns in bar(kinds.items(), desc="shortcuts", unit="kind"):
        predicted = table["label"].copy()
        for fold in sorted(table["fold"].unique()):
            test = table["fold"] == fold
            forest = RandomForestClassifier(
                200,
                max_samples=min(_MOST_DRAWN, (~test).sum()),
                class_weight="balanced",
                min_samples_leaf=2,
                random_state=seed,
                n_jobs=-1,
            )
            forest.fit(table.loc[~test, columns], table.loc[~test, "label"])
            predicted[test] = forest.predict(table.loc[test, columns])
        result[kind] = table[["label", "group"]].assign(predicted=predicted)
    return result


def network_controls(controls: pd.DataFrame, frame: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Predictions of the networks for their test images as they are, without the brain, and with only the brain.

    Args:
        controls: what `prediction.tables.load_controls` returns for the masked images.
        frame: what `prediction.tables.load_predictions` returns for the same folds.

    Returns:
        "whole_image" and each mask -> columns label, predicted, group; empty if there are no controls.
    """
    if controls.empty:
        return {}
    tested = frame[frame["role"].isin(set(controls["role"]))].assign(control="whole_image")
    result = {}
    for name, part in pd.concat([tested, controls]).groupby("control", sort=False):
        predicted = np.array(class_names(part))[probabilities(part).argmax(axis=1)]
        result[name] = part[["label", "group"]].assign(predicted=predicted)
    return result


def shortcut_rows(
    from_traits: dict[str, pd.DataFrame], network: dict[str, pd.DataFrame], min_class_images: int
) -> pd.DataFrame:
    """Balanced accuracy of each control, with its 95 % interval over patient groups.

    Args:
        from_traits: what `predict_from_traits` returns.
        network: name ("whole_image", "brain_masked", "brain_only") -> columns label, predicted, group of the test
            images.
        min_class_images: a control with fewer images of a class has no row.

    Returns:
        Columns source ("file" or "network"), control, n, balanced_accuracy, balanced_accuracy_ci_low and _ci_high.
    """
    rows = []
    for source, controls in (("file", from_traits), ("network", network)):
        for name, frame in controls.items():
            classes = sorted(set(frame["label"]))
            if frame["label"].value_counts().min() < min_class_images:
                continue
            code = {label: k for k, label in enumerate(sorted({*classes, *frame["predicted"]}))}
            actual, predicted = frame["label"].map(code).to_numpy(), frame["predicted"].map(code).to_numpy()
            low, high = interval(actual, predicted, frame["group"], len(code))["balanced_accuracy"]
            score = recall_score(actual, predicted, labels=sorted(set(actual)), average="macro")
            rows.append((source, name, len(frame), *(round(float(x), 6) for x in (score, low, high))))
    columns = ["balanced_accuracy", "balanced_accuracy_ci_low", "balanced_accuracy_ci_high"]
    return pd.DataFrame(rows, columns=["source", "control", "n", *columns])
