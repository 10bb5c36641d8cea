"""Answer, unsure or no answer: what a classifier makes of its probabilities."""

from collections.abc import Sequence

import numpy as np

ANSWER, UNSURE, REFUSED = "answer", "unsure", "no answer"


def states(probabilities: np.ndarray, least: Sequence[float]) -> np.ndarray:
    """(n,) str: the state of each image.

    ANSWER: the most probable class is at least as probable as it must be to be answered. UNSURE: it is not, but the two
    most probable classes together are as probable as a single one must be. REFUSED: neither.

    Args:
        probabilities: (n, classes).
        least: (classes,) smallest probability at which each class is answered; infinity: it never is.

    Example:
        >>> states(np.array([[0.9, 0.1, 0.0], [0.2, 0.8, 0.0], [0.4, 0.3, 0.3]]), [0.75, 0.95, 0.75]).tolist()
        ['answer', 'unsure', 'no answer']
    """
    called, most = probabilities.argmax(axis=1), probabilities.max(axis=1)
    two = np.sort(probabilities, axis=1)[:, -2:].sum(axis=1)
    # Answers that are never given leave nothing to be unsure about.
    unsure = (two >= np.min(least)) & np.isfinite(np.min(least))
    return np.where(most >= np.asarray(least)[called], ANSWER, np.where(unsure, UNSURE, REFUSED))
