"""Shared by the readers: choice of slices, grey levels, and errors in one line."""

import importlib
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import cv2
import numpy as np

from brain_tumor.imaging.decoding import UnreadableImage


@dataclass(frozen=True)
class Slices:
    """What a reader makes of a file.

    Attributes:
        count: how many slices, frames or pages the file has.
        wanted: number from 0 -> (height, width) uint8 grey of the wanted ones, in order.
        series: what all files of its series have in common, and no file of another; "": it is of no series.
        position: of the file in its series: in mm along the axis of the slices, or else its number.
    """

    count: int
    wanted: dict[int, np.ndarray]
    series: str = ""
    position: float | None = None


_ALONE = threading.Lock()
_MOST_OBLONG = 20  # edges of a pixel, long to short; thick slices seen from the side reach about 14


@contextmanager
def optional_reader(kind: str, package: str) -> Iterator[None]:
    """Use an optional package: its exceptions become UnreadableImage, its warnings and logs are dropped.

    One thread at a time, because the filter of warnings is shared by all threads.
    """
    with _ALONE, warnings.catch_warnings(action="ignore"):
        try:
            importlib.import_module(package)
        except ImportError as error:
            raise UnreadableImage(
                f"{kind} files need the optional readers: pip install 'brain-tumor[readers]'"
            ) from error
        import logging

        logger = logging.getLogger(package)
        level = logger.level
        logger.setLevel(logging.CRITICAL + 1)
        try:
            yield
        except UnreadableImage:
            raise
        except Exception as error:  # damaged bytes may raise anything, down to the libraries' own bugs
            raise UnreadableImage(
                f"the {kind} file is damaged or of a kind that is not read: {one_line(error) or type(error).__name__}"
            ) from error
        finally:
            logger.setLevel(level)


def choose(wanted: str | int, count: int, middle: list[int]) -> Sequence[int]:
    """The numbers of the wanted slices among `count`; `middle` are those of "middle"."""
    if wanted == "middle":
        return middle
    if wanted == "all":
        return range(count)
    if wanted in range(count):
        return [wanted]
    raise UnreadableImage(f"expected one of {count} slices, 0 to {count - 1}, got {wanted!r}: choose another")


def levels(values: np.ndarray, clip: float) -> tuple[float, float]:
    """The `clip` and 100 - `clip` percentiles of the finite values."""
    values = values.ravel(order="K")  # in memory order, which is several times faster
    finite = values[np.isfinite(values)]
    low, high = np.percentile(finite, [clip, 100 - clip], overwrite_input=True) if finite.size else (0, 0)
    return float(low), float(high)


def to_bytes(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """Scale values so that `low` becomes 0 and `high` 255, and clip; values that are not finite become 0."""
    share = (values - float(low)) / max(high - low, 1e-30)  # without a range: black at `low`, white above
    return np.rint(np.where(np.isfinite(share), share, 0).clip(0, 1) * 255).astype(np.uint8, order="C")


def squared(grey: np.ndarray, high: float, wide: float, max_pixels: int, slices: int = 1) -> np.ndarray:
    """Stretch (height, width) uint8 along the axis with fewer samples, so that pixels are square.

    Args:
        grey: one of the slices.
        high, wide: edges of a pixel, in any unit; finite and above 0.
        max_pixels: largest number of pixels of all slices.
        slices: how many there are of this size.

    Raises:
        UnreadableImage: the result is too large, or the pixels are too oblong to be those of a head.
    """
    height, width = grey.shape[0] * max(high / wide, 1), grey.shape[1] * max(wide / high, 1)
    if not height * width * slices <= max_pixels:
        raise too_large(f"{slices} x {width:.0f} x {height:.0f}", max_pixels)
    if max(high / wide, wide / high) > _MOST_OBLONG:
        raise UnreadableImage(
            f"expected pixels of at most {_MOST_OBLONG} : 1, got {high:g} x {wide:g}: correct the spacing in the header"
        )
    return cv2.resize(grey, (round(width), round(height)))  # as it is, if that is its size


def too_large(got: str, max_pixels: int) -> UnreadableImage:
    """The error about an image of more than `max_pixels` pixels, or of none; `got` says how large it is."""
    return UnreadableImage(f"expected 1 to {max_pixels:,} pixels, got {got}: cut it or scale it down")


def one_line(text: object) -> str:
    """At most 200 printable characters: text from a file may get into an error, and an error into a terminal."""
    return " ".join("".join(c if c.isprintable() else " " for c in str(text)).split())[:200]
