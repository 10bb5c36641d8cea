"""Candidates for copies: 256-bit gradient hashes, compared in eight orientations and many crops.

A bit tells whether one cell of a 12 x 12 thumbnail is brighter than its neighbour to the left or above (the
"difference hash" of N. Krawetz, 2013, in both directions). The eight comparisons next to the corners are left
out: they are background, and without them flips and quarter turns permute the 256 bits.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from brain_tumor.audit.searching import nearest_pairs
from brain_tumor.audit.views import ORIENTATIONS, SIZE, oriented, resized
from brain_tumor.progress import bar

_GRID = 12
_BLOCK = 8192  # pictures whose crops are compared at once
# What a copy may lack at two opposite edges of the head, as shares of its box; the hash of a crop between two of
# these is near enough to theirs.
_CUTS = tuple(itertools.product((0.0, 0.05, 0.1), repeat=2))
WINDOWS = np.array(
    [
        [round(left * SIZE), SIZE - round(right * SIZE), round(top * SIZE), SIZE - round(bottom * SIZE)]
        for (left, right), (top, bottom) in itertools.product(_CUTS, _CUTS)
    ]
)
"""(81, 4) int: left, right, top, bottom of the crops of a view that are looked for, pixels; the first is all of it."""


def _kept_bits() -> np.ndarray:
    across = np.ones((_GRID, _GRID - 1), bool)
    across[np.ix_([0, -1], [0, -1])] = False
    return np.concatenate([across.ravel(), across.T.ravel()])


_KEPT = _kept_bits()


@dataclass(frozen=True)
class Candidates:
    """Pairs of views that may show the same picture: the crop `window` of view `a`, brought into
    `orientation`, looks like view `b`. All (m,) int; each pair is listed once, whichever of the two was cropped.

    Attributes:
        a, b: rows of the views.
        orientation: position in `ORIENTATIONS`.
        window: row of `WINDOWS`.
        distance: number of bits that differ.
    """

    a: np.ndarray
    b: np.ndarray
    orientation: np.ndarray
    window: np.ndarray
    distance: np.ndarray


def thumbnails(pictures: np.ndarray, window: np.ndarray = WINDOWS[0]) -> np.ndarray:
    """One crop of each of (n, SIZE, SIZE) uint8 views as (n, 12, 12) uint8."""
    left, right, top, bottom = window
    return np.stack([resized(picture[top:bottom, left:right], _GRID) for picture in pictures])


def hashes(thumbs: np.ndarray) -> np.ndarray:
    """The hashes of (n, 12, 12) uint8 thumbnails: (n, 32) uint8, 256 bits each."""
    brighter = thumbs[:, :, 1:] > thumbs[:, :, :-1], thumbs[:, 1:] > thumbs[:, :-1]
    bits = np.concatenate([part.reshape(len(thumbs), -1) for part in brighter], axis=1)
    return np.packbits(bits[:, _KEPT], axis=1)


def candidates(
    pictures: np.ndarray, radius: int, most: int, windows: np.ndarray = WINDOWS, known: int = 0
) -> Candidates:
    """Pairs of views whose hashes are near in some orientation and crop.

    Args:
        pictures: (n, SIZE, SIZE) uint8 views.
        radius: largest number of bits that differ.
        most: largest number of partners per view, the nearest first; limits the work on large sets of look-alikes.
        windows: the crops to look for, the first rows of `WINDOWS`.
        known: number of leading views that were compared with one another before; pairs of two of them are left out.
    """
    blocks = [(start, pictures[start : start + _BLOCK]) for start in range(0, len(pictures), _BLOCK)]

    def variants() -> Iterator[tuple[int, int, np.ndarray]]:
        every = list(itertools.product(blocks, enumerate(windows)))
        for (start, part), (number, window) in bar(every, desc="compare", unit="crop"):
            thumbs = thumbnails(part, window)
            for orientation in range(len(ORIENTATIONS)):
                yield number * len(ORIENTATIONS) + orientation, start, hashes(oriented(thumbs, orientation))

    database = np.concatenate([hashes(thumbnails(part)) for _, part in blocks])
    a, b, variant, distance = nearest_pairs(database, variants(), radius, most, known, symmetric=len(ORIENTATIONS))
    window, orientation = np.divmod(variant, len(ORIENTATIONS))
    return Candidates(a, b, orientation, window, distance)
