"""Saliency: do activation maps tell anything? Compared with random weights, the brain, and known lesions."""

from pathlib import Path

import keras
import numpy as np
import pandas as pd
from scipy.stats import rankdata

from brain_tumor.imaging.decoding import decode
from brain_tumor.imaging.placement import seen_square
from brain_tumor.imaging.preprocessing import Preprocessing
from brain_tumor.metrics.rounding import rounded
from brain_tumor.perturbations.masks import brain_region
from brain_tumor.prediction.maps import explained, outputs, randomised
from brain_tumor.prediction.tables import class_names, probabilities
from brain_tumor.tables.csv_tables import read_table


def explain(
    model: keras.Model,
    images: np.ndarray,
    table: pd.DataFrame,
    boxes: dict[str, np.ndarray],
    *,
    batch_size: int,
    seed: int,
) -> tuple[np.ndarray, pd.DataFrame]:
    """Activation maps of the predictions of one model, and a comparison of each with what it should show.

    Args:
        model: trained.
        images: (n, size, size) uint8.
        table: n rows of predictions, see `prediction.tables`.
        boxes: what `lesion_boxes` returns.
        batch_size: images per forward pass.
        seed: of the random weights; another one than that of the training, which started from its own.

    Returns:
        The maps, (n, height, width, classes) float32, and n rows of what `compare` returns.
    """
    maps = outputs(explained(model), images, batch_size)["maps"]
    random = outputs(explained(randomised(model, seed)), images, batch_size)["maps"]
    predicted = probabilities(table).argmax(axis=1)
    # The map of a wrong class need not show the lesion.
    correct = np.array(class_names(table))[predicted] == table["label"]
    lesions = np.array([boxes.get(path, [np.nan] * 4) for path in table["path"].where(correct)])
    brains = np.stack([brain_region(image) for image in images])
    shown = np.arange(len(table)), slice(None), slice(None), predicted
    return maps, compare(maps[shown], random[shown], brains, lesions)


def lesion_boxes(root: Path, source: str, preprocessing: Preprocessing) -> dict[str, np.ndarray]:
    """Path -> box of the lesion in the prepared image, if a source has a table of the truth, as phantoms do.

    Args:
        root: folder of all sources.
        source: name of the source.
        preprocessing: how its images were prepared.
    """
    if not (root / source / "truth.csv").exists():
        return {}
    truth = read_table(root / source / "truth.csv")
    known = truth.loc[truth["lesion_x"] != "", ["path", "lesion_x", "lesion_y", "lesion_w", "lesion_h"]]
    return {
        f"{source}/{path}": prepared_box(
            decode((root / source / path).read_bytes()), tuple(map(int, box)), preprocessing
        )
        for path, *box in known.itertuples(index=False)
    }


def compare(maps: np.ndarray, random: np.ndarray, brains: np.ndarray, lesions: np.ndarray) -> pd.DataFrame:
    """Compare the map of each image with what it should show.

    Args:
        maps: (n, height, width) float, of the predicted class.
        random: the same from a network with random weights.
        brains: (n, size, size) bool, where the brain is in the prepared image.
        lesions: (n, 4) float, `prepared_box` of a lesion that the map should show; NaN if there is none.

    Returns:
        One row per image: randomised_similarity; peak_in_brain and peak_in_lesion (0 or 1), and for each of them
        <name>_by_chance, the share of the image that counts as a hit; NaN if there is no lesion.
    """
    size = brains.shape[1]
    points, reach = peaks(maps, size), size / maps.shape[1] / 2
    known = ~np.isnan(lesions).any(axis=1)
    sides = np.minimum(lesions[:, 2:] + reach, size) - np.maximum(lesions[:, :2] - reach, 0)
    return pd.DataFrame(
        {
            "randomised_similarity": map_similarity(maps, random),
            "peak_in_brain": brains[np.arange(len(brains)), *points.astype(int).T].astype(float),
            "peak_in_brain_by_chance": brains.mean(axis=(1, 2)),
            "peak_in_lesion": np.where(known, hits(points, lesions, reach), np.nan),
            "peak_in_lesion_by_chance": sides.clip(0).prod(axis=1) / size**2,
        }
    )


def saliency_scores(rows: pd.DataFrame) -> dict:
    """Means of what `compare` returns, with n, and n_lesion if lesions are known."""
    lesions = int(rows["peak_in_lesion"].notna().sum())
    means = rows.mean().dropna()
    return {"n": len(rows)} | ({"n_lesion": lesions} if lesions else {}) | {k: rounded(v) for k, v in means.items()}


def map_similarity(maps: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Rank correlation of the maps of each image.

    Args:
        maps, others: (n, height, width) float.

    Returns:
        (n,) float64, Spearman's rho; 0 if a map is constant.
    """
    ranks = [rankdata(values.reshape(len(values), -1), axis=1) for values in (maps, others)]
    a, b = (values - values.mean(axis=1, keepdims=True) for values in ranks)
    norm = np.sqrt(np.square(a).sum(axis=1) * np.square(b).sum(axis=1))
    return (a * b).sum(axis=1) / np.maximum(norm, 1e-12)


def peaks(maps: np.ndarray, size: int) -> np.ndarray:
    """The position of the maximum of each map.

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
    """A box in a scan, in pixels of the prepared image.

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
    """(n,) bool, whether each (row, column) is inside its (left, top, right, bottom) or within `reach` pixels of it.

    The pointing game (Zhang et al., ECCV 2016). The tolerance is half a cell of the map, the precision of a peak.
    """
    row, column = points.T
    left, top, right, bottom = boxes.T
    return (left - reach <= column) & (column <= right + reach) & (top - reach <= row) & (row <= bottom + reach)
