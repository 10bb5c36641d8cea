"""Do maps of where a network looks tell anything? Against weights drawn anew, the brain, and known lesions."""

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from brain_tumor.evaluation.inputs import rounded
from brain_tumor.evaluation.placement import seen_square
from brain_tumor.imaging import Preprocessing


def look(maps: np.ndarray, anew: np.ndarray, brains: np.ndarray, lesions: np.ndarray) -> pd.DataFrame:
    """What the map of each image tells, a row per image.

    Args:
        maps: (n, height, width) float, of the predicted class.
        anew: the same of a network whose weights were drawn anew.
        brains: (n, size, size) bool, where the brain lies in the prepared image.
        lesions: (n, 4) float, `prepared_box` of a lesion that the map should show; NaN where there is none.

    Returns:
        randomised_similarity; peak_in_brain and peak_in_lesion (0 or 1), each beside <name>_by_chance, the share of
        the picture that is a hit; NaN where there is no lesion.
    """
    size = brains.shape[1]
    points, reach = peaks(maps, size), size / maps.shape[1] / 2
    known = ~np.isnan(lesions).any(axis=1)
    sides = np.minimum(lesions[:, 2:] + reach, size) - np.maximum(lesions[:, :2] - reach, 0)
    return pd.DataFrame(
        {
            "randomised_similarity": map_similarity(maps, anew),
            "peak_in_brain": brains[np.arange(len(brains)), *points.astype(int).T].astype(float),
            "peak_in_brain_by_chance": brains.mean(axis=(1, 2)),
            "peak_in_lesion": np.where(known, hits(points, lesions, reach), np.nan),
            "peak_in_lesion_by_chance": sides.clip(0).prod(axis=1) / size**2,
        }
    )


def look_figures(rows: pd.DataFrame) -> dict:
    """Means of what `look` returns, with n, and n_lesion where lesions are known."""
    lesions = int(rows["peak_in_lesion"].notna().sum())
    means = rows.mean().dropna()
    return {"n": len(rows)} | ({"n_lesion": lesions} if lesions else {}) | {k: rounded(v) for k, v in means.items()}


def map_similarity(maps: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Rank correlation of the maps of each image.

    Args:
        maps, others: (n, height, width) float.

    Returns:
        (n,) float64, Spearman's rho; 0 where a map is even.
    """
    ranks = [rankdata(values.reshape(len(values), -1), axis=1) for values in (maps, others)]
    a, b = (values - values.mean(axis=1, keepdims=True) for values in ranks)
    norm = np.sqrt(np.square(a).sum(axis=1) * np.square(b).sum(axis=1))
    return (a * b).sum(axis=1) / np.maximum(norm, 1e-12)


def peaks(maps: np.ndarray, size: int) -> np.ndarray:
    """Where each map is highest.

    Args:
        maps: (n, height, width) float.
        size: edge of the prepared image in pixels.

    Returns:
        (n, 2) float64, row and column of the centre of the highest cell, in pixels of the prepared image.
    """
    n, height, width = maps.shape
    row, column = np.unravel_index(maps.reshape(n, -1).argmax(axis=1), (height, width))
    return np.stack([(row + 0.5) * size / height, (column + 0.5) * size / width], axis=1)


def prepared_box(grey: np.ndarray, box: tuple[int, int, int, int], preprocessing: Preprocessing) -> np.ndarray:
    """A box of a scan, in pixels of the prepared image.

    Args:
        grey: (height, width) uint8, the decoded scan.
        box: left, top, width, height in its pixels.
        preprocessing: how it is prepared.

    Returns:
        (4,) float64: left, top, right, bottom.
    """
    left, top, edge = seen_square(grey, preprocessing)
    x, y = box[0] - left, box[1] - top
    return np.array([x, y, x + box[2], y + box[3]]) * preprocessing.size / edge


def hits(points: np.ndarray, boxes: np.ndarray, reach: float) -> np.ndarray:
    """(n,) bool, whether each (row, column) lies in its (left, top, right, bottom) or within `reach` pixels of it.

    The pointing game (Zhang et al., ECCV 2016); the tolerance is half a cell of the map, as a peak is known no better.
    """
    row, column = points.T
    left, top, right, bottom = boxes.T
    return (left - reach <= column) & (column <= right + reach) & (top - reach <= row) & (row <= bottom + reach)
