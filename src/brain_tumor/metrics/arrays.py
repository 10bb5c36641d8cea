"""Checks of labels and probabilities, in the shapes that scores and curves take.

Everywhere in this folder `labels` is a sequence of n class names, `probabilities` is (n, c) float with a column
per class, and `classes` names the c columns. The predicted class is the most probable one, the first on a tie.
"""

from collections.abc import Sequence

import numpy as np


def as_arrays(
    labels: Sequence[str], probabilities: np.ndarray, classes: Sequence[str]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Actual and predicted class as (n,) int indices into `classes`, and the probabilities as float64.

    Raises:
        ValueError: shapes do not fit, there is no image, a label is not a class, or a probability is not finite.

    Example:
        >>> actual, predicted, _ = as_arrays(["b", "a"], np.array([[0.2, 0.8], [0.3, 0.7]]), ["a", "b"])
        >>> actual.tolist(), predicted.tolist()
        ([1, 0], [1, 1])
    """
    probabilities = np.asarray(probabilities, dtype=np.float64)
    expected = (len(labels), len(classes))
    if probabilities.shape != expected or 0 in expected:
        raise ValueError(f"expected probabilities for {expected} labels and classes, got {probabilities.shape}")
    if not np.isfinite(probabilities).all():
        raise ValueError("expected finite probabilities, got NaN or infinity")
    position = {name: i for i, name in enumerate(classes)}
    unknown = sorted(set(labels) - set(position))
    if unknown:
        raise ValueError(f"expected labels among {list(classes)}, got {unknown}")
    return np.array([position[label] for label in labels]), probabilities.argmax(axis=1), probabilities
