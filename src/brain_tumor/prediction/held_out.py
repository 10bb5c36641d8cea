"""Predictions of a fold's model for the images that it did not learn from, as they are and perturbed."""

from collections.abc import Callable

import numpy as np
import pandas as pd

from brain_tumor.perturbations.masks import MASKS, masked
from brain_tumor.perturbations.shifts import SHIFTS, shifted
from brain_tumor.prediction.predicting import Predictor

PARTS = {"validation": ("validation",), "test": ("test", "official_test")}
"""Part -> roles. Kept apart so that a search by validation images computes no test figure."""


def predict_part(
    predictor: Predictor, images: np.ndarray, about: pd.DataFrame, part: str
) -> tuple[pd.DataFrame, np.ndarray]:
    """The predictions of one part, and the features of its images.

    Args:
        predictor: the network.
        images: (n, size, size) uint8 of the store.
        about: n rows with path, label and role, see `tables.roles`.
        part: key of `PARTS`.

    Returns:
        The rows of `about` in the part, with p_<class>... and raw_<class>..., and (rows, channels) float32.
    """
    rows = np.flatnonzero(about["role"].isin(PARTS[part]))
    return predictor.table(images[rows], about.iloc[rows])


def predict_controls(
    predictor: Predictor, images: np.ndarray, about: pd.DataFrame, part: str, shown: np.ndarray
) -> pd.DataFrame:
    """Predictions of perturbed images.

    Validation images are shown as other scanners might have taken them, which a recipe may be chosen by; test images
    without their brain, and with nothing but the brain, which tells what the network relies on.

    Args:
        predictor, images, about, part: as for `predict_part`.
        shown: (n,) bool, the images to perturb.

    Returns:
        As from `predict_part`, below each other for every control, which the column `control` names.
    """
    rows, tables = np.flatnonzero(shown), []
    for name, change in _controls(part).items():
        perturbed = np.stack([change(images[row], row) for row in rows])
        tables.append(predictor.table(perturbed, about.iloc[rows])[0].assign(control=name))
    return pd.concat(tables)


def _controls(part: str) -> dict[str, Callable[[np.ndarray, int], np.ndarray]]:
    """Control -> change of an image and its row, which seeds the noise."""
    if part == "validation":
        return {name: lambda pixels, row, name=name: shifted(pixels, name, seed=row) for name in SHIFTS}
    return {name: lambda pixels, row, name=name: masked(pixels, name) for name in MASKS}
