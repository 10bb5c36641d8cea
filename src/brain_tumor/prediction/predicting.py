"""Probabilities from a trained network."""

import keras
import numpy as np
import pandas as pd

from brain_tumor.networks.calibration import calibrated
from brain_tumor.prediction.tables import PROBABILITY, UNCALIBRATED
from brain_tumor.progress import bar


def predict(
    model: keras.Model, images: np.ndarray, rows: np.ndarray, *, batch_size: int, flips: bool, calibration: dict
) -> tuple[np.ndarray, np.ndarray]:
    """Class probabilities of images.

    Args:
        model: from (n, size, size, 1) pixels of 0-255 to class probabilities.
        images: (n, size, size) uint8, may be memory-mapped.
        rows: (m,) int, rows of `images`.
        batch_size: images per forward pass.
        flips: average over each image and its mirror image.
        calibration: scale and biases that the model was calibrated with, as in its metadata.

    Returns:
        (m, classes) float32, and the same without the calibration.
    """
    scale, biases = calibration["scale"], np.array(calibration["biases"])
    results, uncalibrated = [], []
    for start in bar(range(0, len(rows), batch_size), desc="predict", unit="batch", leave=False):
        batch = images[rows[start : start + batch_size]][..., None]
        views = [batch, batch[:, :, ::-1]] if flips else [batch]
        seen = np.stack([model.predict_on_batch(view) for view in views])
        results.append(seen.mean(axis=0))
        # The inverse of a calibration is a calibration.
        before = np.mean([calibrated(view, 1 / scale, -biases / scale) for view in seen], axis=0)
        uncalibrated.append(before.astype(np.float32))
    return np.concatenate(results), np.concatenate(uncalibrated)


def prediction_table(
    model: keras.Model, metadata: dict, images: np.ndarray, rows: np.ndarray, about: pd.DataFrame, **options
) -> pd.DataFrame:
    """A table of images with their probabilities, after and before calibration.

    Args:
        model, metadata: what `networks.saving.load_model` returns.
        images, rows, options: see `predict`.
        about: (m rows) columns that describe the images.

    Returns:
        `about` with p_<class>... and raw_<class>...
    """
    results = predict(model, images, rows, calibration=metadata["calibration"], **options)
    for prefix, values in zip((PROBABILITY, UNCALIBRATED), results, strict=True):
        about = about.assign(**{prefix + name: values[:, k] for k, name in enumerate(metadata["classes"])})
    return about
