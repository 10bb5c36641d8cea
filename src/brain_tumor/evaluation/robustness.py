"""How a score falls when scans get worse."""

import numpy as np
import pandas as pd

from brain_tumor.evaluation.bootstrap import confusion_scores, interval
from brain_tumor.evaluation.cohorts import class_names, probabilities
from brain_tumor.evaluation.corruptions import STRENGTHS
from brain_tumor.evaluation.inputs import as_arrays, rounded

SCORE = "balanced_accuracy"


def stratified_sample(frame: pd.DataFrame, most: int, seed: int) -> pd.DataFrame:
    """At most `most` rows with each label's share of the whole, in the order they had."""
    if len(frame) <= most:
        return frame
    counts = frame["label"].value_counts().sort_index()
    shares = counts * most / len(frame)
    take = shares.astype(int)
    take[(shares - take).sort_values(ascending=False, kind="stable").index[: most - take.sum()]] += 1
    rng = np.random.default_rng(seed)
    kept = [rng.choice(np.flatnonzero(frame["label"] == label), size, replace=False) for label, size in take.items()]
    return frame.iloc[np.sort(np.concatenate(kept))]


def robustness_rows(results: pd.DataFrame) -> pd.DataFrame:
    """Score the images under each corruption and strength.

    Args:
        results: label, group, corruption ("none" for the images as they are), strength (0 with it) and p_<class>...

    Returns:
        A row per corruption and strength, in the order they appear: corruption, strength, n, balanced_accuracy (over
        the classes present) and its 95 % interval over groups.
    """
    names, rows = class_names(results), []
    for (corruption, strength), part in results.groupby(["corruption", "strength"], sort=False):
        actual, predicted, _ = as_arrays(part["label"], probabilities(part), names)
        matrix = np.zeros((len(names), len(names)))
        np.add.at(matrix, (actual, predicted), 1)
        low, high = interval(actual, predicted, part["group"].to_numpy(), len(names))[SCORE]
        row = {"corruption": corruption, "strength": int(strength), "n": len(part)}
        rows.append(row | {SCORE: rounded(confusion_scores(matrix)[SCORE])})
        rows[-1] |= {f"{SCORE}_ci_low": rounded(low), f"{SCORE}_ci_high": rounded(high)}
    return pd.DataFrame(rows)


def robustness_figures(rows: pd.DataFrame) -> dict:
    """The rows as nested figures for a metrics file.

    Returns:
        n; clean; mean (over all corruptions and strengths); strength_<s>, mean over corruptions;
        <corruption>.strength_<s>: balanced accuracies.
    """
    changed = rows[rows["strength"] > 0]
    figures = {"n": int(rows["n"].iloc[0]), "clean": float(rows.loc[rows["strength"] == 0, SCORE].iloc[0])}
    figures["mean"] = rounded(changed[SCORE].mean())
    figures |= {f"strength_{s}": rounded(changed.loc[changed["strength"] == s, SCORE].mean()) for s in STRENGTHS}
    for name, part in changed.groupby("corruption", sort=False):
        figures[name] = {f"strength_{row.strength}": getattr(row, SCORE) for row in part.itertuples()}
    return figures
