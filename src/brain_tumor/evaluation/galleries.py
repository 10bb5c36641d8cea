"""Pages of correct and wrong answers with their activation maps."""

from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from brain_tumor.drawing.gallery import gallery_png
from brain_tumor.files import replacing_folder
from brain_tumor.imaging.overlay import overlaid
from brain_tumor.prediction.tables import class_names, probabilities
from brain_tumor.tables.store import Store

_MOST = 24
_EDGE = 160  # of an image on the page, in pixels
_TITLES = {
    "right": "Right answers, from the most to the least confident of each class",
    "wrong": "Wrong answers, from the most to the least confident",
    "confident_wrong": "The most confident wrong answers",
}


def answer_galleries(
    target: Path | str, cohort: pd.DataFrame, frame: pd.DataFrame, store: Store, maps_folder: Path | str
) -> None:
    """Draw correct answers of every confidence, wrong answers of every confidence, and the most confident wrong ones.

    Args:
        target: folder for right.png, wrong.png and confident_wrong.png; replaced as a whole.
        cohort: the rows of `frame` to choose from.
        frame: what `prediction.tables.load_predictions` returns.
        store: of the prepared images.
        maps_folder: holds `fold-<k>.npy`, (n, height, width, classes): the maps of the rows of fold k in `frame`.
    """
    maps = {fold: np.load(Path(maps_folder) / f"fold-{fold}.npy", mmap_mode="r") for fold in set(frame["model_fold"])}
    place = {(fold, path): i for fold, part in frame.groupby("model_fold") for i, path in enumerate(part["path"])}
    with replacing_folder(target) as folder:
        for kind, rows in _chosen(cohort).items():
            images = store.images[store.rows(rows["path"])]
            cells = [
                (_cell(image, maps[row.model_fold][place[row.model_fold, row.path]][..., row.column]), _caption(row))
                for image, row in zip(images, rows.itertuples(), strict=True)
            ]
            size = {"columns": 4, "width": 11.6, "line_height": 1.62, "caption_size": 8}
            gallery_png(folder / f"{kind}.png", cells, _TITLES[kind], **size)


def _chosen(cohort: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Kind of `_TITLES` -> rows with path, label, model_fold, predicted, its column, and confidence."""
    values, names = probabilities(cohort), np.array(class_names(cohort))
    table = cohort[["path", "label", "model_fold"]].assign(
        predicted=names[values.argmax(axis=1)], column=values.argmax(axis=1), confidence=values.max(axis=1)
    )
    table = table.sort_values(["confidence", "path"], ascending=[False, True])
    right = table["predicted"] == table["label"]
    per_class = -(-_MOST // len(names))
    return {
        "right": pd.concat([_evenly(part, per_class) for _, part in table[right].groupby("label")] or [table.head(0)]),
        "wrong": _evenly(table[~right], _MOST),
        "confident_wrong": table[~right].head(_MOST),
    }


def _evenly(rows: pd.DataFrame, most: int) -> pd.DataFrame:
    return rows.iloc[np.unique(np.linspace(0, len(rows) - 1, min(most, len(rows))).round().astype(int))]


def _cell(pixels: np.ndarray, values: np.ndarray) -> np.ndarray:
    pixels = cv2.resize(pixels, (_EDGE, _EDGE), interpolation=cv2.INTER_LINEAR)
    plain = np.repeat(pixels[..., None], 3, axis=2)
    return np.hstack([plain, np.full((_EDGE, 4, 3), 255, np.uint8), overlaid(pixels, values)])


def _caption(row) -> str:
    actual, predicted = (name.removesuffix("_tumor") for name in (row.label, row.predicted))
    called = "" if actual == predicted else f", called {predicted}"
    return f"{actual}{called}: {row.confidence:.0%}"
