"""Scores of the exported classifier as it answers, with abstention and novelty."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from brain_tumor.exported.states import ANSWER, states
from brain_tumor.metrics.arrays import as_arrays
from brain_tumor.metrics.rounding import rounded
from brain_tumor.metrics.scores import cohort_metrics

_SHOWN = ("n", "accuracy", "accuracy_ci_low", "accuracy_ci_high", "macro_f1", "macro_f1_ci_low", "macro_f1_ci_high")


def deployed_scores(
    table: pd.DataFrame,
    probabilities: np.ndarray,
    novel: np.ndarray,
    classes: Sequence[str],
    confidence: Sequence[float],
    min_class_images: int,
) -> dict:
    """Scores on a set of images that the classifier did not learn from.

    Args:
        table: n rows with label and group.
        probabilities: (n, classes).
        novel: (n,) bool, whether the novelty score is above its threshold.
        classes: names of the columns of `probabilities`.
        confidence: (classes,) smallest probability at which each class is answered.
        min_class_images: as for `metrics.scores.cohort_metrics`.

    Returns:
        n, accuracy and macro_f1 with their intervals on all images; answered and novel, shares of the images; error of
        the answers, if there are any.
    """
    actual, predicted, probabilities = as_arrays(table["label"], probabilities, classes)
    scores = cohort_metrics(table["label"], probabilities, classes, min_class_images, table["group"])
    answered = (states(probabilities, confidence) == ANSWER) & ~novel
    figures = {name: scores[name] for name in _SHOWN if name in scores}
    figures |= {"answered": rounded(answered.mean()), "novel": rounded(novel.mean())}
    return figures | ({"error": rounded((predicted != actual)[answered].mean())} if answered.any() else {})


def measured(test: dict[str, dict], described: dict[str, str]) -> list[dict]:
    """What the answers are worth, as the exported file states it: `classifier_file.Metadata.measured`.

    Args:
        test: cohort -> its scores, see `decisions.decision_scores`.
        described: cohort -> what its images are, in words; those to state, in this order.
    """
    stated = []
    for cohort, words in described.items():
        if cohort not in test:
            continue
        figures, selective = test[cohort], test[cohort]["selective"]
        row = {"images": words, "n": figures["n"], "answered": selective["coverage"]}
        row |= {name: selective[name] for name in ("error", "missed") if name in selective}
        row |= {name: sets["coverage"] for name, sets in figures.get("conformal", {}).items()}
        stated.append(row)
    return stated
