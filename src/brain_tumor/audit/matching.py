"""Do two views show the same picture? One is registered to the other, then their detail is compared.

Neighbouring slices of a patient have the same outline and differ in their detail, copies share it. So the
score is a local correlation: the mean, over all places where both pictures have texture, of the correlation
within a small window (normalised cross-correlation; J. P. Lewis, Vision Interface, 1995). Changes of
brightness and contrast do not affect it; saturated places are left out.

The registration is a search in whole pixels, and the score is made of whole-number sums: it has the same bits on
every processor. Many pairs are taken at a time, because the arrays of one are small beside the time of a call.
"""

from collections.abc import Sequence
from functools import lru_cache

import cv2
import numpy as np

from brain_tumor.audit.views import SIZE, oriented, resized

_MARGIN = SIZE // 8  # how far beyond a view the other may reach, pixels
_NARROWEST = 5 * SIZE // 8  # a crop leaves at least so much of the edge, pixels
_STEPS = 6
_FIT = 48  # edge of the pictures that are registered, pixels
_LARGEST_STEP = 8  # pixels per edge of the window

_NEIGHBOURHOOD = 9  # edge of the window of a local correlation, pixels
_TEXTURE = 36  # variance of a window with texture, grey levels squared
_LEAST_TEXTURE = 0.02  # share of the windows that must have it
_SATURATED = 1 / 40  # share of a window's pixels that may be black or white

_INWARDS = (np.arange(_FIT) + 0.5) / _FIT


@lru_cache(None)  # of at most 8 orientations times the windows of `hashing.WINDOWS`
def place_window(window: tuple[int, int, int, int], orientation: int) -> tuple[int, int, int, int]:
    """Where a window (left, right, top, bottom) of a view lies when the view is oriented."""
    left, right, top, bottom = window
    inside = np.zeros((SIZE, SIZE), bool)
    inside[top:bottom, left:right] = True
    rows, columns = (np.flatnonzero(oriented(inside, orientation).any(axis=axis)) for axis in (1, 0))
    return int(columns[0]), int(columns[-1]) + 1, int(rows[0]), int(rows[-1]) + 1


def register(
    a: Sequence[np.ndarray], orientations: Sequence[int], windows: Sequence[np.ndarray], b: Sequence[np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Find the parts of views that other views show, starting from guesses.

    Gauss-Newton steps on the four edges of the part and on gain and offset of the intensities (Lucas and
    Kanade, IJCAI 1981), each rounded to whole pixels.

    Args:
        a, b: m views each, (SIZE, SIZE) uint8.
        orientations: in which each of `a` is like its `b`.
        windows: (4,) int each, first guess of the part of `a`: left, right, top, bottom, before orienting.

    Returns:
        The parts of `a` that show what `b` shows, (m, SIZE, SIZE) uint8, and their correlations with `b`, (m,).
    """
    canvases = [
        cv2.copyMakeBorder(np.ascontiguousarray(oriented(each, how)), *[_MARGIN] * 4, borderType=cv2.BORDER_REPLICATE)
        for each, how in zip(a, orientations, strict=True)
    ]
    target = _fitted(b)
    target_power = (target * target).sum(axis=1)
    edges = np.array([place_window(tuple(map(int, w)), how) for w, how in zip(windows, orientations, strict=True)])
    best_edges, best = edges.copy(), np.full(len(edges), -1.0)
    seen, active = [set() for _ in edges], np.arange(len(edges))
    for _ in range(_STEPS):
        active = active[[tuple(edges[m]) not in seen[m] for m in active]]
        if not len(active):
            break
        for m in active:
            seen[m].add(tuple(edges[m]))
        moving = _fitted([_part(canvases[m], edges[m]) for m in active])
        power, product = (moving * moving).sum(axis=1), (moving * target[active]).sum(axis=1)
        correlation = product / np.sqrt(np.maximum(power * target_power[active], 1e-9))
        better = correlation > best[active]
        best[active[better]], best_edges[active[better]] = correlation[better], edges[active[better]]
        goes_on = product > 0
        active, moving, gain = active[goes_on], moving[goes_on], product[goes_on] / power[goes_on]
        edges[active] = _next_edges(edges[active], moving, target[active], gain)
    parts = [resized(_part(canvas, found), SIZE) for canvas, found in zip(canvases, best_edges, strict=True)]
    return np.stack(parts), best


def similarity(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Mean local correlation of registered pictures, -1 to 1, in steps of 0.0001.

    Args:
        a, b: (m, SIZE, SIZE) uint8.

    Returns:
        (m,), the means over the windows in which both have texture and are not saturated; -1 if there are too few.
    """
    n = _NEIGHBOURHOOD**2
    # Whole numbers below 2 ** 31.
    sum_a, sum_b = _sums(a), _sums(b)
    power_a, power_b = (n * _sums(_product(x, x)) - s * s for x, s in ((a, sum_a), (b, sum_b)))
    product = n * _sums(_product(a, b)) - sum_a * sum_b
    usable = np.minimum(power_a, power_b) > _TEXTURE * n * n
    clipped = np.maximum(*(_sums(np.uint8((x <= 1) | (x >= 254))) for x in (a, b)))
    clear = usable & (clipped <= _SATURATED * n)
    least = _LEAST_TEXTURE * usable[0].size
    few = clear.sum(axis=(1, 2)) < least
    clear[few] = usable[few]
    scores = np.full(len(a), -1.0)
    for m in np.flatnonzero(clear.sum(axis=(1, 2)) >= least):
        found = clear[m]
        spread = np.sqrt(power_a[m][found].astype(np.float64) * power_b[m][found])
        scores[m] = int(np.rint(product[m][found] / spread * 10_000).sum()) // len(spread) / 10_000
    return scores


def _part(canvas: np.ndarray, edges: np.ndarray) -> np.ndarray:
    left, right, top, bottom = edges + _MARGIN
    return canvas[top:bottom, left:right]


def _fitted(pictures: Sequence[np.ndarray]) -> np.ndarray:
    """(m, _FIT * _FIT) float64, small and smooth, the mean of each taken off."""
    small = np.stack([cv2.blur(resized(picture, _FIT), (3, 3)) for picture in pictures])
    flat = small.reshape(len(small), -1).astype(np.float64)
    return flat - flat.mean(axis=1, keepdims=True)


def _next_edges(edges: np.ndarray, moving: np.ndarray, target: np.ndarray, gain: np.ndarray) -> np.ndarray:
    left, right, top, bottom = edges.T
    down, across = np.gradient(moving.reshape(-1, _FIT, _FIT), axis=(1, 2))
    across *= (gain * _FIT / (right - left))[:, None, None]
    down *= (gain * _FIT / (bottom - top))[:, None, None]
    slopes = np.empty((len(edges), 6, _FIT, _FIT))
    slopes[:, 0], slopes[:, 1] = across * (1 - _INWARDS), across * _INWARDS
    slopes[:, 2], slopes[:, 3] = down * (1 - _INWARDS)[:, None], down * _INWARDS[:, None]
    slopes[:, 4], slopes[:, 5] = moving.reshape(-1, _FIT, _FIT), 1
    slopes = slopes.reshape(len(edges), 6, _FIT * _FIT)
    normal = slopes @ slopes.transpose(0, 2, 1)
    diagonal = np.arange(6)
    normal[:, diagonal, diagonal] = normal[:, diagonal, diagonal] * 1.01 + 1e-6
    change = np.linalg.solve(normal, slopes @ (target - gain[:, None] * moving)[:, :, None])[:, :4, 0]
    left, right, top, bottom = (edges + np.rint(change.clip(-_LARGEST_STEP, _LARGEST_STEP)).astype(int)).T
    limit = SIZE - _NARROWEST
    return np.stack(
        [
            np.clip(left, -_MARGIN, limit // 2),
            np.clip(right, SIZE - limit // 2, SIZE + _MARGIN),
            np.clip(top, -_MARGIN, limit // 2),
            np.clip(bottom, SIZE - limit // 2, SIZE + _MARGIN),
        ],
        axis=1,
    )


def _product(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.multiply(a, b, dtype=np.uint16)


def _sums(x: np.ndarray) -> np.ndarray:
    """Sums over all windows that lie inside: (m, h, w) uint8 or uint16 -> (m, h - 8, w - 8) int32."""
    edge, (m, height, width) = _NEIGHBOURHOOD // 2, x.shape
    # As one tall picture: the windows that reach into the next one are cut off.
    sums = cv2.boxFilter(x.reshape(-1, width), cv2.CV_32S, (_NEIGHBOURHOOD, _NEIGHBOURHOOD), normalize=False)
    return sums.reshape(m, height, width)[:, edge:-edge, edge:-edge]
