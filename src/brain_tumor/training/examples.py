"""What a network is trained and validated on: images, or the features of a frozen backbone."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from brain_tumor.training.augment import Augmentation, augment


@dataclass(frozen=True)
class Examples:
    """Inputs of a network with their classes, and how to augment them.

    Attributes:
        originals: (n, ...) inputs of the network, may be memory-mapped.
        allowed: (n, classes) bool, the classes among which the true one is.
        train_rows: (m,) int, rows of `originals`.
        validation_rows: the same; each has a single class.
        variant: (row, generator) -> a randomly augmented variant of that input.
    """

    originals: np.ndarray
    allowed: np.ndarray
    train_rows: np.ndarray
    validation_rows: np.ndarray
    variant: Callable[[int, np.random.Generator], np.ndarray]


def image_examples(images: np.ndarray, *about: np.ndarray, augmentation: Augmentation) -> Examples:
    """Examples of (n, size, size) uint8 images; `about` are allowed, train_rows and validation_rows of `Examples`."""
    return Examples(
        images[..., None], *about, variant=lambda row, rng: augment(images[row], augmentation, rng)[..., None]
    )


def feature_examples(features: np.ndarray, *about: np.ndarray) -> Examples:
    """Examples of (n, v, c) features of v views per image: trained on a random one, validated on the first."""
    return Examples(features[:, 0], *about, variant=lambda row, rng: features[row, rng.integers(features.shape[1])])
