"""Pictures of right and wrong answers with where the network looked. They show images of the data set: never in git."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from brain_tumor.evaluation.cohorts import class_names, probabilities
from brain_tumor.evaluation.figures import figure_file
from brain_tumor.evaluation.overlay import overlaid
from brain_tumor.files import replacing_folder

_COLUMNS, _MOST = 4, 24
_EDGE = 160  # pixels an image is shown with


def galleries(
    target: Path | str, frame: pd.DataFrame, pixels: Callable[[str], np.ndarray], maps: Callable[[int, str], np.ndarray]
) -> None:
    """Draw right answers of every confidence, wrong ones likewise, and the most confident wrong ones.

    Args:
        target: folder for right.png, wrong.png and confident_wrong.png; replaced as a whole.
        frame: rows of what `cohorts.load_predictions` returns, of one cohort.
        pixels: path -> (size, size) uint8, the prepared image.
        maps: model_fold, path -> (height, width, classes) float, its class activation maps.
    """
    values, names = probabilities(frame), np.array(class_names(frame))
    table = frame[["path", "label", "model_fold"]].assign(
        predicted=names[values.argmax(axis=1)], column=values.argmax(axis=1), confidence=values.max(axis=1)
    )
    table = table.sort_values(["confidence", "path"], ascending=[False, True])
    right = table["predicted"] == table["label"]
    per_class = -(-_MOST // len(names))
    kinds = {
        "right": pd.concat([_evenly(part, per_class) for _, part in table[right].groupby("label")] or [table.head(0)]),
        "wrong": _evenly(table[~right], _MOST),
        "confident_wrong": table[~right].head(_MOST),
    }
    titles = {
        "right": "Right answers, from the most to the least confident of each class",
        "wrong": "Wrong answers, from the most to the least confident",
        "confident_wrong": "The most confident wrong answers",
    }
    with replacing_folder(target) as folder:
        for kind, rows in kinds.items():
            cells = [
                (_cell(pixels(row.path), maps(row.model_fold, row.path)[..., row.column]), _caption(row))
                for row in rows.itertuples()
            ]
            _page(folder / f"{kind}.png", cells, titles[kind])


def odd_page(path: Path | str, pictures: dict[str, np.ndarray]) -> None:
    """Draw the first pictures of each kind, a line per kind.

    Args:
        path: PNG file to write.
        pictures: kind -> (n, size, size) uint8.
    """
    columns = 8
    with figure_file(path, 8.8, len(pictures) * 1.1 + 0.2, dpi=110) as figure:
        for line, (kind, images) in zip(figure.subplots(len(pictures), columns), pictures.items(), strict=True):
            line[0].set_title(kind, fontsize=8, loc="left", fontweight="normal")
            for axes in line:
                axes.set_axis_off()
            for axes, image in zip(line, images, strict=False):
                axes.imshow(image, cmap="gray", vmin=0, vmax=255)


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


def _page(path: Path, cells: list[tuple[np.ndarray, str]], title: str) -> None:
    lines = max(-(-len(cells) // _COLUMNS), 1)
    with figure_file(path, 11.6, lines * 1.62 + 0.4, dpi=110) as figure:
        figure.suptitle(title if cells else f"{title}: none", fontsize=11, fontweight="bold")
        for axes, (picture, caption) in zip(figure.subplots(lines, _COLUMNS, squeeze=False).flat, cells, strict=False):
            axes.imshow(picture)
            axes.set_title(caption, fontsize=8, fontweight="normal")
        for axes in figure.axes:
            axes.set_axis_off()
