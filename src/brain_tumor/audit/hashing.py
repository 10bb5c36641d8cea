"""Candidates for copies: 256-bit gradient hashes, compared in eight orientations and many crops.

A bit tells whether one cell of a 12 x 12 thumbnail is brighter than its neighbour to the left or above (the
"difference hash" of N. Krawetz, 2013, in both directions). The eight comparisons next to the corners are left
out: they are background, and without them flips and quarter turns permute the 256 bits.
"""

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import faiss
import numpy as np

from brain_tumor.audit.views import ORIENTATIONS, SIZE, oriented, resized
from brain_tumor.progress import bar

BITS = 256
_GRID = 12
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


def neighbours(thumbs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The cells of (n, 12, 12) thumbnails that each bit compares: two (n, 256) arrays."""
    ahead = np.concatenate([part.reshape(len(thumbs), -1) for part in (thumbs[:, :, 1:], thumbs[:, 1:])], axis=1)
    behind = np.concatenate([part.reshape(len(thumbs), -1) for part in (thumbs[:, :, :-1], thumbs[:, :-1])], axis=1)
    return ahead[:, _KEPT], behind[:, _KEPT]


def hashes(thumbs: np.ndarray) -> np.ndarray:
    """The hashes of (n, 12, 12) uint8 thumbnails: (n, 32) uint8, 256 bits each."""
    ahead, behind = neighbours(thumbs)
    return np.packbits(ahead > behind, axis=1)


def search(database: np.ndarray, queries: np.ndarray, radius: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """All pairs of hashes that differ in at most `radius` bits, by exhaustive comparison.

    Args:
        database: (n, 32) uint8.
        queries: (m, 32) uint8.
        radius: in bits.

    Returns:
        (k,) int64 each: rows of `queries`, rows of `database`, distances.
    """
    index = faiss.IndexBinaryFlat(BITS)
    index.add(np.ascontiguousarray(database))
    # faiss leaves out pairs at the radius itself.
    limits, distances, rows = index.range_search(np.ascontiguousarray(queries), radius + 1)
    found = np.repeat(np.arange(len(queries)), np.diff(limits.astype(np.int64)))
    return found, rows.astype(np.int64), distances.astype(np.int64)


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

    def variants() -> Iterator[np.ndarray]:
        for window in bar(windows, desc="compare", unit="crop"):
            thumbs = thumbnails(pictures, window)
            for orientation in range(len(ORIENTATIONS)):
                yield hashes(oriented(thumbs, orientation))

    a, b, variant, distance = nearest_pairs(hashes(thumbnails(pictures)), variants(), radius, most, known)
    window, orientation = np.divmod(variant, len(ORIENTATIONS))
    return Candidates(a, b, orientation, window, distance)


def nearest_pairs(
    database: np.ndarray, variants: Iterable[np.ndarray], radius: int, most: int, known: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Pairs of hashes that are near if one of the two is replaced by one of its variants.

    Args:
        database: (n, 32) uint8.
        variants: each (n, 32) uint8; the first eight are the orientations of the uncropped views, for which it does
            not matter which of the two views is turned.
        radius: largest number of bits that differ.
        most: pairs per hash, the nearest first.
        known: see `candidates`.

    Returns:
        (m,) int64 each: a, b, the number of the variant of a that is near b, the distance. Each pair is listed once.
    """
    n, found = len(database), np.empty((0, 3), np.int64)
    for variant, queries in enumerate(variants):
        a, b, distance = _search_new(database, queries, radius, known)
        # Two uncropped views are equally far apart whichever of them is turned: one way is enough.
        other = a < b if variant < len(ORIENTATIONS) else a != b
        a, b, distance = a[other], b[other], distance[other]
        # One number holds how a pair was found and whether its first view is the changed one; its order
        # decides between equal distances.
        pair, how = np.minimum(a, b) * n + np.maximum(a, b), variant * 2 + (a > b)
        found = _nearest(np.concatenate([found, np.column_stack([pair, distance, how])]))
    pair, distance, how = found.T
    first, second = pair // n, pair % n
    near = _among_nearest(first, second, distance, most)
    first, second, distance, how = first[near], second[near], distance[near], how[near]
    swapped = how % 2 == 1
    return np.where(swapped, second, first), np.where(swapped, first, second), how // 2, distance


def _search_new(database: np.ndarray, queries: np.ndarray, radius: int, known: int) -> tuple[np.ndarray, ...]:
    """`search` without pairs of two of the first `known` hashes."""
    if not known:
        return search(database, queries, radius)
    new, among_all, distance = search(database, queries[known:], radius)
    old, among_new, further = search(database[known:], queries[:known], radius)
    return (
        np.concatenate([new + known, old]),
        np.concatenate([among_all, among_new + known]),
        np.concatenate([distance, further]),
    )


def _nearest(found: np.ndarray) -> np.ndarray:
    """Of rows (pair, distance, how) the first of each pair."""
    found = found[np.lexsort(found.T[::-1])]
    return found[np.diff(found[:, 0], prepend=-1) != 0]


def _among_nearest(first: np.ndarray, second: np.ndarray, distance: np.ndarray, most: int) -> np.ndarray:
    """Which pairs are among the `most` nearest of either of their views: (m,) bool."""
    view, partner = np.concatenate([first, second]), np.concatenate([second, first])
    order = np.lexsort([partner, np.tile(distance, 2), view])
    rank = np.arange(len(order)) - np.searchsorted(view[order], view[order])
    near = np.zeros(len(first), bool)
    near[order[rank < most] % max(len(first), 1)] = True
    return near
