"""What the exported classifier is worth as it answers: from one view of each image, and not always."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from brain_tumor.evaluation.inputs import as_arrays, rounded
from brain_tumor.evaluation.metrics import cohort_metrics

_SHOWN = ("n", "accuracy", "accuracy_ci_low", "accuracy_ci_high", "macro_f1", "macro_f1_ci_low", "macro_f1_ci_high")


def served_figures(
    table: pd.DataFrame,
    probabilities: np.ndarray,
    novel: np.ndarray,
    classes: Sequence[str],
    confidence: float,
    min_class_images: int,
) -> dict:
    """Figures of some images.

    Args:
        table: n rows with label and group.
        probabilities: (n, classes).
        novel: (n,) bool, whether the image is refused as no scan.
        classes: names of the columns of `probabilities`.
        confidence: least probability that is answered.
        min_class_images: as for `metrics.cohort_metrics`.

    Returns:
        n, accuracy and macro_f1 with their intervals of all images; answered and novel, shares of the images; and
        error, of those answered, where any is.
    """
    actual, predicted, probabilities = as_arrays(table["label"], probabilities, classes)
    scores = cohort_metrics(table["label"], probabilities, classes, min_class_images, table["group"])
    answered = (probabilities.max(axis=1) >= confidence) & ~novel
    figures = {name: scores[name] for name in _SHOWN if name in scores}
    figures |= {"answered": rounded(answered.mean()), "novel": rounded(novel.mean())}
    return figures | ({"error": rounded((predicted != actual)[answered].mean())} if answered.any() else {})
