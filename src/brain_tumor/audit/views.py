"""Views: scans normalised so that copies look alike, without borders, cropped to the head, over the full grey scale."""

import copy
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np

from brain_tumor.imaging.preprocessing import head_box, stretch

SIZE = 128
"""Edge of a view in pixels."""
ORIENTATIONS = (
    "as_it_is",
    "rotate_90",
    "rotate_180",
    "rotate_270",
    "flip_left_right",
    "transpose",
    "flip_top_bottom",
    "transverse",
)
"""Names of what `oriented` does, rotations counter-clockwise."""

_CLIP = 0.5  # percent, as in the default preprocessing
# A row or column of an added border has at most this variance (grey levels squared): JPEG noise.
_FLAT = 9
# Lines thinner than 1 / _LINE of the edge are not part of the head; noise is smoothed over 1 / _SMOOTHING of the edge.
_LINE = 100
_SMOOTHING = 50
# The grey of a noisy background is taken from the darkest part of what is not black, percent.
_BACKGROUND = 5


class Views:
    """Many views in a file without a name, which is gone when the process ends: 16 kB each that memory need not hold.

    Indexed like an array (n, SIZE, SIZE) uint8 along its first axis, by which it is read.

    Args:
        views: (SIZE, SIZE) uint8 each.
        folder: of the file.
    """

    def __init__(self, views: Iterable[np.ndarray], folder: Path | str) -> None:
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 (open as long as the views are used)
        for each in views:
            self._file.write(each.tobytes())
        self._rows = np.arange(self._file.tell() // (SIZE * SIZE))
        self._file.flush()

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, key: int | slice | np.ndarray) -> np.ndarray:
        rows = self._rows[key]
        found = np.empty((rows.size, SIZE, SIZE), np.uint8)
        for each, row in zip(found, rows.flat, strict=True):
            os.preadv(self._file.fileno(), [each], int(row) * each.nbytes)
        return found.reshape(*rows.shape, SIZE, SIZE)

    def part(self, rows: np.ndarray) -> "Views":
        """Some of the views, in the same file."""
        some = copy.copy(self)
        some._rows = self._rows[rows]
        return some


def view(grey: np.ndarray) -> np.ndarray:
    """Remove borders of any grey level and the background, stretch the intensities, and resize to a square.

    The aspect ratio is not kept: a copy may have been squeezed.

    Args:
        grey: (height, width) uint8.

    Returns:
        (SIZE, SIZE) uint8, the same bits on every processor.
    """
    grey = stretch(_without_border(grey), _CLIP)
    # Without thin lines, text and noise, so that a copy with fewer of them gets the same box.
    edge = min(grey.shape)
    line, blur = max(edge // _LINE, 1), max(edge // _SMOOTHING, 3)
    opened = cv2.morphologyEx(grey, cv2.MORPH_OPEN, np.ones((line, line), np.uint8))
    smooth = cv2.blur(opened, (blur, blur))
    # Above the grey of a noisy background, so that noise does not matter; pure black is padding.
    grey_parts = smooth[smooth > 0]
    background = int(np.percentile(grey_parts, _BACKGROUND, method="lower")) if len(grey_parts) else 0
    left, top, right, bottom = head_box(cv2.subtract(smooth, background))
    return resized(grey[top:bottom, left:right], SIZE)


def resized(picture: np.ndarray, size: int) -> np.ndarray:
    """Resize (h, w) uint8 to (size, size) without keeping the aspect ratio."""
    shrinks = min(picture.shape) >= size
    picture = np.ascontiguousarray(picture)
    return cv2.resize(picture, (size, size), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)


def oriented(pictures: np.ndarray, orientation: int) -> np.ndarray:
    """Flip and turn (..., h, w) pictures: one of the eight `ORIENTATIONS` by its position."""
    if orientation >= 4:
        pictures = pictures[..., ::-1]
    return np.rot90(pictures, orientation % 4, axes=(-2, -1))


def _without_border(grey: np.ndarray) -> np.ndarray:
    rows, columns = _textured(grey), _textured(grey.T)
    if len(rows) < 2 or len(columns) < 2:
        return grey
    return grey[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def _textured(grey: np.ndarray) -> np.ndarray:
    lines = grey.astype(np.int64)
    n = lines.shape[1]
    return np.flatnonzero(n * (lines * lines).sum(axis=1) - lines.sum(axis=1) ** 2 > _FLAT * n * n)
