"""Labels and probabilities as metrics and curves take them, and figures as metrics files hold them.

Everywhere in this folder `labels` is a sequence of n class names, `probabilities` is (n, c) float with a column
per class, and `classes` names the c columns. The predicted class is the most probable one, the first on a tie.
"""

from collections.abc import Sequence

import numpy as np

_DECIMALS = 6


def as_arrays(
    labels: Sequence[str], probabilities: np.ndarray, classes: Sequence[str]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Actual and predicted class as (n,) int indices into `classes`, and the probabilities as float64.

    Raises:
        ValueError: shapes that do not fit, no image, a label that is not a class, or probabilities that are not
            finite.
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


def rounded(value: float) -> float:
    """A figure with 6 decimals.

    Network outputs are float32 (about 7 digits), and the order in which a processor sums them moves the last
    bits of a float64: rounding drops only digits that mean nothing, so that the same predictions give the same
    bytes everywhere and a diff of two runs shows real changes.
    """
    return round(float(value), _DECIMALS)
