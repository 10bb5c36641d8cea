"""Labels and probabilities of a network that is fairly good, for tests of what is made of them."""

import numpy as np

CLASSES = ["ant", "bee", "cat", "dog"]


def scored(seed: int, n: int = 300, classes=tuple(CLASSES)) -> tuple[list[str], np.ndarray]:
    """Imbalanced labels and fairly good float32 probabilities, with ties."""
    random = np.random.default_rng(seed)
    index = random.choice(len(classes), n, p=random.dirichlet(np.full(len(classes), 5.0)))
    logits = random.normal(size=(n, len(classes))).round(1)
    logits[np.arange(n), index] += 1.0
    exponentials = np.exp(logits)
    values = exponentials / exponentials.sum(axis=1, keepdims=True)
    return [classes[i] for i in index], values.astype(np.float32)


def one_hot(labels: list[str]) -> np.ndarray:
    return (np.array(labels)[:, None] == np.array(CLASSES)).astype(np.float32)
