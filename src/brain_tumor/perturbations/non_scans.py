"""Out-of-distribution pictures: no head scans, but what people might upload by mistake.

They are drawn and not collected, so that anyone can reproduce them.

`DEVELOPMENT` names the kinds that a detector may be tuned on, `HELD_OUT` those that it is tested on.
"""

from collections.abc import Callable

import cv2
import numpy as np

_WORDS = ("the", "report", "of", "a", "scan", "was", "sent", "to", "our", "ward", "on", "monday", "and", "no", "mass")


def non_scan(kind: str, seed: int, scan: np.ndarray) -> np.ndarray:
    """One picture of a kind in `KINDS`.

    Args:
        kind: its name.
        seed: each gives another picture.
        scan: (height, width) uint8, a real scan, which some kinds invert or cut; the others only take its shape.

    Returns:
        (height, width) uint8.
    """
    return np.round(KINDS[kind](scan, np.random.default_rng(seed))).clip(0, 255).astype(np.uint8)


def _noise(scan: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Noise of some grain and distribution, over the whole picture."""
    grain = int(rng.integers(1, 24))
    height, width = scan.shape
    small = rng.normal(128, rng.uniform(15, 90), (height // grain + 2, width // grain + 2))
    return cv2.resize(small, (width, height), interpolation=rng.choice([cv2.INTER_NEAREST, cv2.INTER_LINEAR]))


def _drawing(scan: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Lines and outlines in pen on paper, or in chalk on a board."""
    canvas = np.full(scan.shape, 245.0)
    for _ in range(rng.integers(6, 30)):
        first, second = (tuple(int(v) for v in rng.uniform(0, scan.shape[::-1])) for _ in range(2))
        thickness, radius = int(rng.integers(1, 5)), int(rng.uniform(0.03, 0.3) * min(scan.shape))
        if rng.random() < 0.5:
            cv2.line(canvas, first, second, 20.0, thickness, cv2.LINE_AA)
        else:
            axes = radius, int(radius * rng.uniform(0.3, 1))
            cv2.ellipse(canvas, first, axes, rng.uniform(0, 180), 0, rng.uniform(90, 360), 20.0, thickness, cv2.LINE_AA)
    return canvas if rng.random() < 0.5 else 255 - canvas


def _text(scan: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A page of print, or a dark screen with text."""
    canvas = np.full(scan.shape, 250, np.uint8)
    scale = rng.uniform(0.3, 1.1)
    line = int(30 * scale) + 4
    for y in range(line, scan.shape[0], line):
        words = " ".join(rng.choice(_WORDS, 20))[: int(scan.shape[1] / (17 * scale) * rng.uniform(0.4, 1))]
        font = cv2.FONT_HERSHEY_SIMPLEX if scale < 0.8 else cv2.FONT_HERSHEY_COMPLEX
        cv2.putText(canvas, words, (8, y), font, scale, 15, 1 if scale < 0.8 else 2, cv2.LINE_AA)
    return canvas if rng.random() < 0.6 else 255 - canvas


def _inverted(scan: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The negative of a scan."""
    return 255.0 - scan


def _cut(scan: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A piece from the middle of a scan, a fifth to a third of its edge: without the outline of a head."""
    edge = int(min(scan.shape) * rng.uniform(0.2, 0.33))
    top, left = (int(length * rng.uniform(0.3, 0.7) - edge / 2) for length in scan.shape)
    return scan[max(top, 0) : max(top, 0) + edge, max(left, 0) : max(left, 0) + edge].astype(np.float32)


def _chart(scan: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Axes with bars or a curve."""
    height, width = scan.shape
    canvas = np.full(scan.shape, 255, np.uint8)
    left, bottom = int(width * 0.12), int(height * 0.88)
    cv2.line(canvas, (left, int(height * 0.06)), (left, bottom), 30, 2)
    cv2.line(canvas, (left, bottom), (int(width * 0.95), bottom), 30, 2)
    points = np.linspace(left + 12, width * 0.92, int(rng.integers(4, 14)))
    tops = bottom - rng.uniform(0.05, 0.95, len(points)) * (bottom - height * 0.08)
    if rng.random() < 0.5:
        half = int((points[1] - points[0]) * 0.35)
        for x, y in zip(points, tops, strict=True):
            cv2.rectangle(canvas, (int(x) - half, int(y)), (int(x) + half, bottom), rng.uniform(40, 200), cv2.FILLED)
    else:
        cv2.polylines(canvas, [np.stack([points, tops], axis=1).astype(np.int32)], False, 60, 2, cv2.LINE_AA)
    for x in points:
        cv2.putText(canvas, str(rng.integers(100)), (int(x) - 8, bottom + 18), cv2.FONT_HERSHEY_SIMPLEX, 0.4, 30)
    return canvas


def _texture(scan: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Stripes, checks or weave with some wear, like cloth, tiles and wood."""
    height, width = scan.shape
    y, x = np.mgrid[:height, :width].astype(np.float32)
    angle, period = rng.uniform(0, np.pi), rng.uniform(8, 60)
    wear = cv2.resize(rng.normal(0, 1, (16, 16)), (width, height), interpolation=cv2.INTER_CUBIC)
    along = np.sin(2 * np.pi * (x * np.cos(angle) + y * np.sin(angle)) / period + wear * rng.uniform(0, 2))
    across = np.sin(2 * np.pi * (y * np.cos(angle) - x * np.sin(angle)) / period / rng.uniform(0.5, 2))
    mixed = [along, along * across, np.maximum(along, across)][rng.integers(3)]
    return 128 + rng.uniform(40, 110) * mixed + 12 * wear + rng.normal(0, 6, scan.shape)


def _scene(scan: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Sky, ground and shaded solids, like in a photograph."""
    height, width = scan.shape
    horizon = int(height * rng.uniform(0.35, 0.65))
    canvas = np.empty(scan.shape, np.float32)
    canvas[:horizon] = np.linspace(rng.uniform(120, 240), rng.uniform(120, 240), horizon)[:, None]
    canvas[horizon:] = np.linspace(rng.uniform(40, 160), rng.uniform(40, 160), height - horizon)[:, None]
    y, x = np.mgrid[:height, :width].astype(np.float32)
    for _ in range(rng.integers(3, 9)):
        cx, cy, r = rng.uniform(0, width), rng.uniform(0.2, 1) * height, rng.uniform(0.05, 0.22) * width
        base = rng.uniform(30, 230)
        if rng.random() < 0.5:
            inside = np.hypot(x - cx, y - cy) < r
            shade = 1 - 0.6 * np.hypot(x - cx + r / 3, y - cy + r / 3) / r
        else:
            inside = (abs(x - cx) < r) & (abs(y - cy) < r * rng.uniform(0.5, 1.5))
            shade = 0.7 + 0.3 * (x - cx) / r
        canvas = np.where(inside, base * shade, canvas)
    grain = rng.normal(0, rng.uniform(2, 8), scan.shape)
    return cv2.GaussianBlur(canvas, (0, 0), 1.2) + grain


DEVELOPMENT = ("noise", "drawing", "text")
HELD_OUT = ("inverted", "cut", "chart", "texture", "scene")
_DRAWN = (_noise, _drawing, _text, _inverted, _cut, _chart, _texture, _scene)
KINDS: dict[str, Callable[[np.ndarray, np.random.Generator], np.ndarray]] = {f.__name__[1:]: f for f in _DRAWN}
"""Name -> picture, from a scan and a random generator."""
