"""Robustness: the score of corrupted scans."""

import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd

from brain_tumor.imaging.decoding import decode
from brain_tumor.imaging.preprocessing import Preprocessing, prepare_grey
from brain_tumor.metrics.arrays import as_arrays
from brain_tumor.metrics.bootstrap import confusion_scores, interval
from brain_tumor.metrics.rounding import rounded
from brain_tumor.perturbations.corruptions import CORRUPTIONS, STRENGTHS, corrupted
from brain_tumor.prediction.predicting import Predictor
from brain_tumor.prediction.tables import class_names, probabilities
from brain_tumor.progress import bar

SCORE = "balanced_accuracy"
_VARIANTS = [("none", 0), *((name, strength) for name in CORRUPTIONS for strength in STRENGTHS)]


def corrupted_predictions(sample: pd.DataFrame, root: Path, predictors: Mapping[int, Predictor]) -> pd.DataFrame:
    """Predict every image under every corruption and strength.

    Args:
        sample: rows with path, label, group and model_fold. Their index seeds the corruptions.
        root: of the data set. Each scan is corrupted as decoded, then prepared like any other.
        predictors: model_fold -> its network.

    Returns:
        A row per image and variant, see `robustness_rows`.
    """
    results = []
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for corruption, strength in bar(_VARIANTS, desc="robustness", unit="variant"):
            for fold, part in sample.groupby("model_fold"):
                preprocessing = Preprocessing(**predictors[fold].metadata["preprocessing"])
                jobs = [
                    pool.submit(_prepared, root / path, preprocessing, corruption, strength, seed)
                    for seed, path in zip(part.index, part["path"], strict=True)
                ]
                about = part[["label", "group"]].assign(corruption=corruption, strength=strength)
                results.append(predictors[fold].table(np.stack([job.result() for job in jobs]), about)[0])
    return pd.concat(results)


def stratified_sample(frame: pd.DataFrame, most: int, seed: int) -> pd.DataFrame:
    """At most `most` rows of `frame`, with the same shares of labels and in the same order."""
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
    """The score under each corruption and strength.

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


def robustness_scores(rows: pd.DataFrame) -> dict:
    """What `robustness_rows` returns as nested dictionaries, for a metrics file.

    Returns:
        Balanced accuracies: clean; mean (over all corruptions and strengths); strength_<s>, mean over corruptions;
        <corruption>.strength_<s>. And n.
    """
    changed = rows[rows["strength"] > 0]
    figures = {"n": int(rows["n"].iloc[0]), "clean": float(rows.loc[rows["strength"] == 0, SCORE].iloc[0])}
    figures["mean"] = rounded(changed[SCORE].mean())
    figures |= {f"strength_{s}": rounded(changed.loc[changed["strength"] == s, SCORE].mean()) for s in STRENGTHS}
    for name, part in changed.groupby("corruption", sort=False):
        figures[name] = {f"strength_{row.strength}": getattr(row, SCORE) for row in part.itertuples()}
    return figures


def _prepared(path: Path, preprocessing: Preprocessing, corruption: str, strength: int, seed: int) -> np.ndarray:
    grey = decode(path.read_bytes())
    return prepare_grey(corrupted(grey, corruption, strength, seed) if strength else grey, preprocessing)
