"""Labels: a class, or several classes among which the true one is ("glioma|meningioma"), a partial label."""

from collections.abc import Iterable, Sequence

import numpy as np

SEPARATOR = "|"


def join_classes(classes: Iterable[str]) -> str:
    """The label that says that the class is one of `classes`.

    Example:
        >>> join_classes(["meningioma", "glioma"])
        'glioma|meningioma'
    """
    return SEPARATOR.join(sorted(set(classes)))


def classes_in(labels: Iterable[str]) -> list[str]:
    """All classes that `labels` name, sorted; the empty label names none."""
    return sorted({name for label in set(labels) for name in label.split(SEPARATOR)} - {""})


def is_exact(label: str) -> bool:
    """Whether a label names a single class."""
    return label != "" and SEPARATOR not in label


def allowed_classes(labels: Sequence[str], classes: Sequence[str]) -> np.ndarray:
    """(n, classes) bool: which classes each label leaves possible; none for the empty label.

    Example:
        >>> allowed_classes(["a", "a|c"], ["a", "b", "c"]).astype(int).tolist()
        [[1, 0, 0], [1, 0, 1]]
    """
    return np.array([[name in label.split(SEPARATOR) for name in classes] for label in labels], bool)


def common_label(labels: Iterable[str]) -> str:
    """The label that agrees with all `labels`: their common classes; "" if they contradict each other.

    Example:
        >>> common_label(["glioma|meningioma", "glioma"]), common_label(["glioma", "no_tumor"])
        ('glioma', '')
    """
    return join_classes(set.intersection(*(set(label.split(SEPARATOR)) for label in labels)))
