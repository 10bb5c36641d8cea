"""Do two views show the same picture? One is registered to the other, then their detail is compared.

Neighbouring slices of a patient have the same outline and differ in their detail, copies share it. So the
score is a local correlation: the mean, over all places where both pictures have texture, of the correlation
within a small window (normalised cross-correlation; J. P. Lewis, Vision Interface, 1995). Changes of
brightness and contrast do not affect it; saturated places are left out.

The registration is a search in whole pixels, and the score is made of whole-number sums: it has the same bits on
every processor.
"""

import cv2
import numpy as np

from brain_tumor.audit.views import SIZE, oriented, resized

_MARGIN = SIZE // 8  # how far beyond a view the other may reach, pixels
_NARROWEST = 5 * SIZE // 8  # a crop leaves at least so much of the edge, pixels
_STEPS = 6
_FIT = 48  # edge of the pictures that are registered, pixels
_LARGEST_STEP = 8  # pixels per edge of the window

_COMPARED = 128  # edge of the pictures whose detail is compared, pixels
_NEIGHBOURHOOD = 9  # edge of the window of a local correlation, pixels
_TEXTURE = 36  # variance of a window with texture, grey levels squared
_LEAST_TEXTURE = 0.02  # share of the windows that must have it
_SATURATED = 1 / 40  # share of a window's pixels that may be black or white

_INWARDS = (np.arange(_FIT) + 0.5) / _FIT


def place_window(window: np.ndarray, orientation: int) -> np.ndarray:
    """Where a window (left, right, top, bottom) of a view lies when the view is oriented."""
    left, right, top, bottom = window
    inside = np.zeros((SIZE, SIZE), bool)
    inside[top:bottom, left:right] = True
    rows, columns = (np.flatnonzero(oriented(inside, orientation).any(axis=axis)) for axis in (1, 0))
    return np.array([columns[0], columns[-1] + 1, rows[0], rows[-1] + 1])


def register(a: np.ndarray, orientation: int, window: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, float]:
    """Find the part of a view that another view shows, starting from a guess.

    Gauss-Newton steps on the four edges of the part and on gain and offset of the intensities (Lucas and
    Kanade, IJCAI 1981), each rounded to whole pixels.

    Args:
        a, b: (SIZE, SIZE) uint8 views.
        orientation: in which `a` is like `b`.
        window: (4,) int, first guess of the part of `a`: left, right, top, bottom, before orienting.

    Returns:
        The part of `a` that shows what `b` shows as (SIZE, SIZE) uint8, and its correlation with `b`.
    """
    canvas = cv2.copyMakeBorder(
        np.ascontiguousarray(oriented(a, orientation)), *[_MARGIN] * 4, borderType=cv2.BORDER_REPLICATE
    )
    target = _smooth(resized(b, _FIT))
    target -= target.mean()
    edges, seen = place_window(window, orientation), set()
    best_edges, best = edges, -1.0
    for _ in range(_STEPS):
        if (key := tuple(edges.tolist())) in seen:
            break
        seen.add(key)
        moving = _smooth(resized(_part(canvas, edges), _FIT))
        moving -= moving.mean()
        power, product = (moving * moving).sum(), (moving * target).sum()
        correlation = product / np.sqrt(max(power * (target * target).sum(), 1e-9))
        if correlation > best:
            best_edges, best = edges, correlation
        if product <= 0:
            break
        edges = _next_edges(edges, moving, target, product / power)
    return resized(_part(canvas, best_edges), SIZE), float(best)


def similarity(a: np.ndarray, b: np.ndarray) -> float:
    """Mean local correlation of two registered pictures, -1 to 1, in steps of 0.0001.

    Args:
        a, b: (SIZE, SIZE) uint8.

    Returns:
        The mean over the windows in which both have texture and are not saturated; -1 if there are too few.
    """
    a, b = resized(a, _COMPARED).astype(np.float64), resized(b, _COMPARED).astype(np.float64)
    n = _NEIGHBOURHOOD**2
    # Whole numbers below 2 ** 53: exact in float64, in whatever order they are summed.
    sum_a, sum_b = _sums(a), _sums(b)
    power_a, power_b = n * _sums(a * a) - sum_a * sum_a, n * _sums(b * b) - sum_b * sum_b
    product = n * _sums(a * b) - sum_a * sum_b
    clipped = [_sums(((x <= 1) | (x >= 254)).astype(np.float64)) for x in (a, b)]
    usable = np.minimum(power_a, power_b) > _TEXTURE * n * n
    clear = usable & (np.maximum(*clipped) <= _SATURATED * n)
    if clear.sum() >= _LEAST_TEXTURE * usable.size:
        usable = clear
    if usable.sum() < _LEAST_TEXTURE * usable.size:
        return -1.0
    correlation = product[usable] / np.sqrt(power_a[usable] * power_b[usable])
    return int(np.rint(correlation * 10_000).sum()) // len(correlation) / 10_000


def _part(canvas: np.ndarray, edges: np.ndarray) -> np.ndarray:
    left, right, top, bottom = edges + _MARGIN
    return canvas[top:bottom, left:right]


def _smooth(picture: np.ndarray) -> np.ndarray:
    return cv2.blur(picture, (3, 3)).astype(np.float64)


def _next_edges(edges: np.ndarray, moving: np.ndarray, target: np.ndarray, gain: float) -> np.ndarray:
    down, across = np.gradient(moving)
    across *= gain * _FIT / (edges[1] - edges[0])
    down *= gain * _FIT / (edges[3] - edges[2])
    slopes = np.stack(
        [
            across * (1 - _INWARDS),
            across * _INWARDS,
            down * (1 - _INWARDS)[:, None],
            down * _INWARDS[:, None],
            moving,
            np.ones_like(moving),
        ]
    ).reshape(6, -1)
    normal = slopes @ slopes.T
    normal[np.diag_indices(6)] = normal.diagonal() * 1.01 + 1e-6
    change = np.linalg.solve(normal, slopes @ (target - gain * moving).ravel())[:4]
    left, right, top, bottom = edges + np.rint(change.clip(-_LARGEST_STEP, _LARGEST_STEP)).astype(int)
    limit = SIZE - _NARROWEST
    return np.array(
        [
            np.clip(left, -_MARGIN, limit // 2),
            np.clip(right, SIZE - limit // 2, SIZE + _MARGIN),
            np.clip(top, -_MARGIN, limit // 2),
            np.clip(bottom, SIZE - limit // 2, SIZE + _MARGIN),
        ]
    )


def _sums(x: np.ndarray) -> np.ndarray:
    """Sums over all windows that lie inside."""
    edge = _NEIGHBOURHOOD // 2
    return cv2.boxFilter(x, -1, (_NEIGHBOURHOOD, _NEIGHBOURHOOD), normalize=False)[edge:-edge, edge:-edge]
