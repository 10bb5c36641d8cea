"""Pages of correct and wrong answers with their activation maps."""

from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from brain_tumor.drawing.gallery import gallery_html, side_by_side
from brain_tumor.files import replacing_folder
from brain_tumor.imaging.overlay import overlaid
from brain_tumor.prediction.tables import class_names, probabilities
from brain_tumor.tables.store import Store
from brain_tumor.words import words

_MOST = 32
_EDGE = 224  # of an image on the page, in pixels
_TITLES = {
    "wrong": "Wrong answers, the most confident first, each image beside its map",
    "right": "Right answers, from the most to the least confident of each class, each image beside its map",
}


def answer_galleries(
    target: Path | str, cohort: pd.DataFrame, frame: pd.DataFrame, store: Store, maps_folder: Path | str
) -> None:
    """Write pages of the most confident wrong answers, and of right answers of every confidence.

    Args:
        target: folder for wrong.html and right.html; replaced as a whole.
        cohort: the rows of `frame` to choose from.
        frame: what `prediction.tables.load_predictions` returns.
        store: of the prepared images.
        maps_folder: holds `fold-<k>.npy`, (n, height, width, classes): the maps of the rows of fold k in `frame`.
    """
    maps = {fold: np.load(Path(maps_folder) / f"fold-{fold}.npy", mmap_mode="r") for fold in set(frame["model_fold"])}
    place = {(fold, path): i for fold, part in frame.groupby("model_fold") for i, path in enumerate(part["path"])}
    with replacing_folder(target) as folder:
        for kind, (rows, among) in _chosen(cohort).items():
            images = store.images[store.rows(rows["path"])]
            cells = [
                (_cell(image, maps[row.model_fold][place[row.model_fold, row.path]][..., row.column]), _caption(row))
                for image, row in zip(images, rows.itertuples(), strict=True)
            ]
            gallery_html(folder / f"{kind}.html", cells, f"{_TITLES[kind]} ({len(cells)} of {among})")


def _chosen(cohort: pd.DataFrame) -> dict[str, tuple[pd.DataFrame, int]]:
    """Kind of `_TITLES` -> rows with path, label, model_fold, predicted, its column, confidence; and of how many."""
    values, names = probabilities(cohort), np.array(class_names(cohort))
    table = cohort[["path", "label", "model_fold"]].assign(
        predicted=names[values.argmax(axis=1)], column=values.argmax(axis=1), confidence=values.max(axis=1)
    )
    table = table.sort_values(["confidence", "path"], ascending=[False, True])
    right = table["predicted"] == table["label"]
    evenly = [_evenly(part, -(-_MOST // len(names))) for _, part in table[right].groupby("label")]
    return {
        "wrong": (table[~right].head(_MOST), int((~right).sum())),
        "right": (pd.concat(evenly or [table.head(0)]), int(right.sum())),
    }


def _evenly(rows: pd.DataFrame, most: int) -> pd.DataFrame:
    return rows.iloc[np.unique(np.linspace(0, len(rows) - 1, min(most, len(rows))).round().astype(int))]


def _cell(pixels: np.ndarray, values: np.ndarray) -> np.ndarray:
    pixels = cv2.resize(pixels, (_EDGE, _EDGE), interpolation=cv2.INTER_LINEAR)
    plain = np.repeat(pixels[..., None], 3, axis=2)
    return side_by_side([plain, overlaid(pixels, values)])


def _caption(row) -> str:
    actual, predicted = (words(name.removesuffix("_tumor")) for name in (row.label, row.predicted))
    called = "" if actual == predicted else f", called {predicted}"
    return f"{actual}{called}: {row.confidence:.0%}"
