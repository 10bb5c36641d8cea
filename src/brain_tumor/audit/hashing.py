"""Candidates for copies: 256-bit gradient hashes, compared in eight orientations and many crops.

Among few hashes all are compared, among many those in the parts that are nearest to each.

A bit tells whether one cell of a 12 x 12 thumbnail is brighter than its neighbour to the left or above (the
"difference hash" of N. Krawetz, 2013, in both directions). The eight comparisons next to the corners are left
out: they are background, and without them flips and quarter turns permute the 256 bits.
"""

import itertools
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import faiss
import numpy as np

from brain_tumor.audit.views import ORIENTATIONS, SIZE, Views, oriented
from brain_tumor.progress import bar

BITS = 256
EXHAUSTIVE = 8192
"""Up to so many hashes all are compared with one another."""

_PROBED = 32  # parts that are compared with a hash; see benchmarks/hash_search.py for what is missed
_ROUNDS = 4  # of k-means
_HELD = 2_000_000  # found pairs that are held before those that are not among the nearest are dropped; 24 bytes each
_GRID = 12
_BLOCK = 4096  # pictures whose crops are compared at once: 50 MB of thumbnails
_SHRUNK = 256  # pictures that are shrunk at once: 50 MB of sums
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


def _comparisons() -> np.ndarray:
    """What each bit of a hash compares, in each orientation: (8, 256, 2) int, cells of the thumbnail."""
    across = np.ones((_GRID, _GRID - 1), bool)
    across[np.ix_([0, -1], [0, -1])] = False
    kept = np.concatenate([across.ravel(), across.T.ravel()])
    cells = np.arange(_GRID * _GRID).reshape(_GRID, _GRID)
    every = []
    for orientation in range(len(ORIENTATIONS)):
        cell = oriented(cells, orientation)
        pairs = (cell[:, 1:], cell[:, :-1]), (cell[1:], cell[:-1])
        every.append(np.concatenate([np.stack(pair, axis=-1).reshape(-1, 2) for pair in pairs])[kept])
    return np.stack(every)


# The comparisons of all orientations, each once, and which of them are the bits of each.
_COMPARED, _PLACES = np.unique(_comparisons().reshape(-1, 2), axis=0, return_inverse=True)
_PLACES = _PLACES.reshape(len(ORIENTATIONS), BITS)


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


def thumbnails(pictures: np.ndarray, windows: np.ndarray = WINDOWS[:1]) -> np.ndarray:
    """Crops of views, each shrunk by the average over areas.

    Sums of products of whole numbers below 2 ** 24, which float32 holds exactly: matrix products give them in whatever
    order a processor adds, and for all crops of a view in the time that resizing one of them takes.

    Args:
        pictures: (n, SIZE, SIZE) uint8 views.
        windows: (w, 4) int: left, right, top, bottom, as in `WINDOWS`.

    Returns:
        (n, w, 12, 12) uint8.
    """
    (across, column), (down, row) = (
        np.unique(edges, axis=0, return_inverse=True) for edges in (windows[:, :2], windows[:, 2:])
    )
    columns, rows = _shares(across), _shares(down)
    area = np.float32(np.diff(down)[row] * np.diff(across)[column])[:, :, None]
    thumbs = np.empty((len(pictures), len(windows), _GRID, _GRID), np.uint8)
    for start in range(0, len(pictures), _SHRUNK):
        part = pictures[start : start + _SHRUNK]
        shrunk = (part.reshape(-1, SIZE).astype(np.float32) @ columns.T).reshape(len(part), SIZE, -1)
        sums = (rows @ shrunk).reshape(len(part), len(down), _GRID, len(across), _GRID)
        thumbs[start : start + _SHRUNK] = np.rint(sums[:, row, :, column].swapaxes(0, 1) / area)
    return thumbs


def _shares(spans: np.ndarray) -> np.ndarray:
    """What each pixel counts in each cell of spans (k, 2), in twelfths: (12 k, SIZE) float32."""
    first, last = spans.T[:, :, None, None]
    cell, pixel = np.arange(_GRID)[:, None], np.arange(SIZE)
    begins, ends = first * _GRID + cell * (last - first), first * _GRID + (cell + 1) * (last - first)
    shared = np.minimum(ends, (pixel + 1) * _GRID) - np.maximum(begins, pixel * _GRID)
    return shared.clip(0).reshape(-1, SIZE).astype(np.float32)


def hashes(thumbs: np.ndarray) -> np.ndarray:
    """The hashes of thumbnails (n, 12, 12) uint8 in each of the `ORIENTATIONS`: (8, n, 32) uint8, 256 bits each."""
    cells = np.ascontiguousarray(thumbs.reshape(len(thumbs), -1).T)
    bits = cells[_COMPARED[:, 0]] > cells[_COMPARED[:, 1]]
    return np.stack([np.packbits(bits[places], axis=0).T for places in _PLACES])


def candidates(
    pictures: np.ndarray | Views, radius: int, most: int, windows: np.ndarray = WINDOWS, known: int = 0
) -> Candidates:
    """Pairs of views whose hashes are near in some orientation and crop.

    Args:
        pictures: (n, SIZE, SIZE) uint8 views.
        radius: largest number of bits that differ.
        most: largest number of partners per view, the nearest first; limits the work on large sets of look-alikes.
        windows: the crops to look for, the first rows of `WINDOWS`.
        known: number of leading views that were compared with one another before; pairs of two of them are left out.
    """
    starts = range(0, len(pictures), _BLOCK)

    def variants() -> Iterator[tuple[int, int, np.ndarray]]:
        with bar(desc="compare", unit="crop", total=len(pictures) * len(windows)) as progress:
            for start in starts:
                for number, thumbs in enumerate(thumbnails(pictures[start : start + _BLOCK], windows).swapaxes(0, 1)):
                    for orientation, queries in enumerate(hashes(thumbs)):
                        yield number * len(ORIENTATIONS) + orientation, start, queries
                    progress.update(len(thumbs))

    database = np.concatenate([hashes(thumbnails(pictures[start : start + _BLOCK])[:, 0])[0] for start in starts])
    a, b, variant, distance = nearest_pairs(database, variants(), radius, most, known, symmetric=len(ORIENTATIONS))
    window, orientation = np.divmod(variant, len(ORIENTATIONS))
    return Candidates(a, b, orientation, window, distance)


class HashIndex:
    """Hashes among which near ones are looked for.

    Up to `EXHAUSTIVE` hashes are compared with all queries. More are divided by k-means, k rising with the square root
    of their number, and a query is compared with the members of the parts whose centres are nearest to it (inverted
    file: Sivic and Zisserman, Video Google, ICCV 2003; in binary form in faiss). So the time rises with n ** 1.5
    instead of n ** 2, and a few of the pairs are missed.

    Args:
        hashes: (n, 32) uint8.
    """

    def __init__(self, hashes: np.ndarray) -> None:
        hashes = np.ascontiguousarray(hashes)
        if len(hashes) <= EXHAUSTIVE:
            self._index = faiss.IndexBinaryFlat(BITS)
        else:
            centres = _centres(hashes, 4 * math.isqrt(len(hashes)))
            self._nearest_part = _flat(centres)  # faiss keeps no reference of its own
            self._index = faiss.IndexBinaryIVF(self._nearest_part, BITS, len(centres))
            self._index.nprobe = _PROBED
            self._index.is_trained = True
        self._index.add(hashes)

    def near(self, queries: np.ndarray, radius: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Pairs of a query and a hash that differ in at most `radius` bits.

        Args:
            queries: (m, 32) uint8.
            radius: in bits.

        Returns:
            (k,) int64 each: rows of `queries`, rows of the hashes, distances.
        """
        # faiss leaves out pairs at the radius itself.
        limits, distances, rows = self._index.range_search(np.ascontiguousarray(queries), radius + 1)
        found = np.repeat(np.arange(len(queries)), np.diff(limits.astype(np.int64)))
        return found, rows.astype(np.int64), distances.astype(np.int64)


def _flat(hashes: np.ndarray) -> faiss.IndexBinaryFlat:
    index = faiss.IndexBinaryFlat(BITS)
    index.add(hashes)
    return index


def _centres(hashes: np.ndarray, parts: int) -> np.ndarray:
    """Centres of the parts of (n, 32) hashes, (parts, 32): each bit is that of the majority.

    In whole numbers, unlike the k-means of faiss, so that they are the same on every processor.
    """
    centres = hashes[np.random.default_rng(0).choice(len(hashes), parts, replace=False)]
    for _ in range(_ROUNDS):
        part = _flat(centres).search(hashes, 1)[1].ravel()
        order, size = np.argsort(part, kind="stable"), np.bincount(part, minlength=parts)
        first = 0
        for number in np.flatnonzero(size):
            members = hashes[order[first : first + size[number]]]
            ones = np.unpackbits(members, axis=1).sum(axis=0, dtype=np.int64)
            centres[number] = np.packbits(2 * ones > size[number])
            first += size[number]
    return centres


def nearest_pairs(
    database: np.ndarray,
    variants: Iterable[tuple[int, int, np.ndarray]],
    radius: int,
    most: int,
    known: int,
    symmetric: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Pairs of hashes that are near if one of the two is replaced by one of its variants.

    Args:
        database: (n, 32) uint8.
        variants: any number of (number of the variant, first row of the database, (m, 32) uint8 variants of the m rows
            from that row on).
        radius: largest number of bits that differ.
        most: pairs per hash, the nearest first.
        known: number of leading hashes that were compared with one another before; pairs of two of them are left out.
        symmetric: for variants below this number it does not matter which of the two hashes is replaced.

    Returns:
        (m,) int64 each: a, b, the number of the variant of a that is near b, the distance. Each pair is listed once.
    """
    everything, new = HashIndex(database), HashIndex(database[known:]) if known else None
    pairs = _NearestPairs(len(database), most)
    for variant, start, queries in variants:
        old = max(0, min(known - start, len(queries)))
        for index, first, part in ((new, known, slice(old)), (everything, 0, slice(old, None))):
            if len(queries[part]):
                rows, b, distance = index.near(queries[part], radius)
                a, b = rows + start + (part.start or 0), b + first
                # One way is enough for two uncropped views, which are equally far apart whichever of them is turned.
                other = a < b if variant < symmetric else a != b
                pairs.add(a[other], b[other], variant, distance[other])
    return pairs.result()


class _NearestPairs:
    """The pairs found so far that are among the `most` nearest of either of their two hashes, of n."""

    def __init__(self, n: int, most: int) -> None:
        self._n, self._most = n, most
        self._kept, self._added, self._waiting = np.empty((0, 3), np.int64), [], 0
        # The distance from which on a further partner is none of the nearest.
        self._limit = np.full(n, BITS + 1)

    def add(self, a: np.ndarray, b: np.ndarray, variant: int, distance: np.ndarray) -> None:
        """Pairs whose hash of `a` is replaced by its variant."""
        near = (distance < self._limit[a]) | (distance < self._limit[b])
        a, b, distance = a[near], b[near], distance[near]
        # One number holds how a pair was found and whether its first view is the changed one; its order
        # decides between equal distances.
        pair, how = np.minimum(a, b) * self._n + np.maximum(a, b), variant * 2 + (a > b)
        self._added.append(np.column_stack([pair, distance, how]))
        self._waiting += len(pair)
        if self._waiting >= _HELD:
            self._drop()

    def result(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """What `nearest_pairs` returns."""
        self._drop()
        pair, distance, how = self._kept.T
        first, second, swapped = pair // self._n, pair % self._n, how % 2 == 1
        return np.where(swapped, second, first), np.where(swapped, first, second), how // 2, distance

    def _drop(self) -> None:
        """Keep the nearest. A pair that is dropped has enough nearer rivals, and these only come closer."""
        found = np.concatenate([self._kept, *self._added])
        self._added, self._waiting = [], 0
        found = found[np.lexsort(found.T[::-1])]
        found = found[np.diff(found[:, 0], prepend=-1) != 0]  # of each pair the nearest
        pair, distance, _ = found.T
        first, second = pair // self._n, pair % self._n
        view, partner = np.concatenate([first, second]), np.concatenate([second, first])
        distance = np.tile(distance, 2)
        order = np.lexsort([partner, distance, view])
        rank = np.arange(len(order)) - np.searchsorted(view[order], view[order])
        near = np.zeros(len(found), bool)
        near[order[rank < self._most] % max(len(found), 1)] = True
        last = order[rank == self._most - 1]
        # A partner as near as the last one may still come before it.
        self._limit[view[last]] = distance[last] + 1
        self._kept = found[near]
