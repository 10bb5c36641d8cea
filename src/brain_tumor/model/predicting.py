"""Probabilities from a trained network."""

import keras
import numpy as np

from brain_tumor.progress import bar


def predict(model: keras.Model, images: np.ndarray, rows: np.ndarray, *, batch_size: int, flips: bool) -> np.ndarray:
    """Class probabilities of some images.

    Args:
        model: from (n, size, size, 1) pixels of 0-255 to class probabilities.
        images: (n, size, size) uint8, may be memory-mapped.
        rows: (m,) int, rows of `images`.
        batch_size: images computed at once.
        flips: average over each image and its mirror image.

    Returns:
        (m, classes) float32.
    """
    probabilities = []
    for start in bar(range(0, len(rows), batch_size), desc="predict", unit="batch"):
        batch = images[rows[start : start + batch_size]][..., None]
        result = model.predict_on_batch(batch)
        if flips:
            result = (result + model.predict_on_batch(batch[:, :, ::-1])) / 2
        probabilities.append(result)
    return np.concatenate(probabilities)
