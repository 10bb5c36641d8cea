"""Probabilities from a trained network."""

from pathlib import Path

import numpy as np
import pandas as pd

from brain_tumor.networks.calibration import calibrated
from brain_tumor.networks.saving import load_model
from brain_tumor.prediction.maps import explained, outputs
from brain_tumor.prediction.tables import PROBABILITY, UNCALIBRATED


class Predictor:
    """A trained network, ready to predict.

    Args:
        path: of its file, see `networks.saving.save_model`.
        batch_size: images per forward pass.
        flips: average over each image and its mirror image, see `maps.explained`.

    Attributes:
        model: the network alone.
        metadata: of the file.
    """

    def __init__(self, path: Path | str, *, batch_size: int, flips: bool) -> None:
        self.model, self.metadata = load_model(path)
        self._whole, self._batch_size = explained(self.model, flips), batch_size

    def features(self, images: np.ndarray) -> np.ndarray:
        """(n, channels) float32 of (n, size, size) uint8 images, see `maps.explained`."""
        return outputs(self._whole, images, self._batch_size)["features"]

    def predict(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Class probabilities of (n, size, size) uint8 images: (n, classes) float32, and without the calibration."""
        found = outputs(self._whole, images, self._batch_size)["probabilities"]
        return found, self._uncalibrated(found)

    def table(self, images: np.ndarray, about: pd.DataFrame) -> tuple[pd.DataFrame, np.ndarray]:
        """A table of images with their probabilities, after and before calibration, and their features.

        Args:
            images: (n, size, size) uint8.
            about: n rows of columns that describe the images.

        Returns:
            `about` with p_<class>... and raw_<class>..., and (n, channels) float32.
        """
        found = outputs(self._whole, images, self._batch_size)
        results = found["probabilities"], self._uncalibrated(found["probabilities"])
        for prefix, values in zip((PROBABILITY, UNCALIBRATED), results, strict=True):
            about = about.assign(**{prefix + name: values[:, k] for k, name in enumerate(self.metadata["classes"])})
        return about, found["features"]

    def _uncalibrated(self, probabilities: np.ndarray) -> np.ndarray:
        scale, biases = self.metadata["calibration"]["scale"], np.array(self.metadata["calibration"]["biases"])
        # The inverse of a calibration is a calibration.
        return calibrated(probabilities, 1 / scale, -biases / scale).astype(np.float32)
