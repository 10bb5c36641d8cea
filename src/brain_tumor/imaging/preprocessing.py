"""The one preprocessing, which training and prediction share.

Only operations that give the same bits on every processor are used: integer arithmetic and OpenCV's decoding,
histogram, INTER_AREA and INTER_LINEAR resizing.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from brain_tumor.imaging.decoding import decode

# A row or column belongs to the head when at least this share of its pixels is foreground:
# enough to pass over specks and annotations, little enough to keep the vertex of the skull.
_MIN_FOREGROUND = 0.02
# A pixel is foreground above this share of the bright level (99th percentile) of the image.
_FOREGROUND_LEVEL = 0.12


@dataclass(frozen=True)
class Preprocessing:
    """How an image becomes an array. Stored with the prepared images and in each model, so that prediction repeats it.

    Attributes:
        size: edge of the square output in pixels.
        crop: crop the image to the bounding box of the head first.
        clip: share of the pixels, in percent, that is saturated at either end when the intensities
            are stretched to 0-255; 0 leaves the intensities as they are.
    """

    size: int
    crop: bool
    clip: float


@dataclass(frozen=True)
class Prepared:
    """Attributes:
    pixels: (size, size) uint8, head centred on black.
    width, height: size of the image in the file, in pixels.
    """

    pixels: np.ndarray
    width: int
    height: int


def prepare(data: bytes, preprocessing: Preprocessing) -> Prepared:
    """Decode, crop to the head, stretch the intensities, pad to a square and resize.

    Args:
        data: content of an image file, see `decoding.decode` for formats and errors.
        preprocessing: the options.
    """
    grey = decode(data)
    height, width = grey.shape
    return Prepared(prepare_grey(grey, preprocessing), width, height)


def prepare_grey(grey: np.ndarray, preprocessing: Preprocessing) -> np.ndarray:
    """What `prepare` does after decoding: (height, width) uint8 grey to (size, size) uint8.

    Example:
        >>> scan = np.zeros((200, 160), np.uint8)
        >>> scan[40:120, 30:110] = 180
        >>> prepare_grey(scan, Preprocessing(size=64, crop=True, clip=0.5)).shape
        (64, 64)
    """
    if preprocessing.crop:
        left, top, right, bottom = head_box(grey)
        grey = grey[top:bottom, left:right]
    if preprocessing.clip > 0:
        grey = stretch(grey, preprocessing.clip)
    return resize_square(grey, preprocessing.size)


def head_box(grey: np.ndarray) -> tuple[int, int, int, int]:
    """Bounding box (left, top, right, bottom; right and bottom exclusive) of the head in pixels.

    Args:
        grey: (height, width) uint8, head bright on a dark background. Without a dark background, or
            without anything bright, the box is the whole image.

    Example:
        >>> scan = np.zeros((200, 160), np.uint8)
        >>> scan[40:120, 30:110] = 180
        >>> head_box(scan)
        (30, 40, 110, 120)
    """
    height, width = grey.shape
    bright = _percentile_level(histogram(grey), 99.0)
    foreground = (grey > max(int(bright * _FOREGROUND_LEVEL), 1)).view(np.uint8)
    in_row, in_column = (cv2.reduce(foreground, axis, cv2.REDUCE_SUM, dtype=cv2.CV_32S).ravel() for axis in (1, 0))
    rows = np.flatnonzero(in_row > _MIN_FOREGROUND * width)
    columns = np.flatnonzero(in_column > _MIN_FOREGROUND * height)
    if len(rows) < 2 or len(columns) < 2:
        return 0, 0, width, height
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def stretch(grey: np.ndarray, clip: float) -> np.ndarray:
    """Stretch (h, w) uint8 so that the `clip` and 100 - `clip` percentiles become 0 and 255."""
    counts = histogram(grey)
    low, high = _percentile_level(counts, clip), _percentile_level(counts, 100 - clip)
    if high <= low:
        return grey
    levels = np.clip((np.arange(256) - low) * 255 // (high - low), 0, 255).astype(np.uint8)
    return cv2.LUT(grey, levels)


def resize_square(grey: np.ndarray, size: int) -> np.ndarray:
    """Centre (h, w) uint8 on a black square and resize it to (size, size), keeping the aspect ratio."""
    height, width = grey.shape
    edge = max(height, width)
    top, left = (edge - height) // 2, (edge - width) // 2
    square = cv2.copyMakeBorder(grey, top, edge - height - top, left, edge - width - left, cv2.BORDER_CONSTANT, value=0)
    if edge == size:
        return square
    return cv2.resize(square, (size, size), interpolation=cv2.INTER_AREA if edge > size else cv2.INTER_LINEAR)


def histogram(grey: np.ndarray) -> np.ndarray:
    """(256,) int64, how many pixels of (h, w) uint8 have each level."""
    # OpenCV counts in float32, exact up to 2**24 equal pixels: strips of less, summed in integers.
    rows = max(1, 2**24 // grey.shape[1])
    strips = (grey[top : top + rows] for top in range(0, len(grey), rows))
    return sum(cv2.calcHist([strip], [0], None, [256], [0, 256]).ravel().astype(np.int64) for strip in strips)


def _percentile_level(counts: np.ndarray, percent: float) -> int:
    """Lowest grey level at or below which `percent` of the pixels lie."""
    cumulative = np.cumsum(counts)
    return int(np.searchsorted(cumulative, cumulative[-1] * percent / 100.0))
