"""Simulated distribution shift: prepared scans as other scanners might have taken them.

Each shift is one fixed change, so that recipes are compared on the same images. The shifts differ from the
augmentation: other tone curves, other bias fields, other noise.
"""

from collections.abc import Callable

import cv2
import numpy as np


def shifted(pixels: np.ndarray, shift: str, seed: int) -> np.ndarray:
    """One scan under one of `SHIFTS`.

    Args:
        pixels: (size, size) uint8, head bright on black.
        shift: name in SHIFTS.
        seed: of the noise, a different one for each image.

    Returns:
        (size, size) uint8.
    """
    changed = SHIFTS[shift](pixels.astype(np.float32) / 255, np.random.default_rng(seed))
    return (changed * 255).round().clip(0, 255).astype(np.uint8)


def _soft(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Half the resolution, as with thick or old acquisitions."""
    size = image.shape[0]
    half = cv2.resize(image, (size // 2, size // 2), interpolation=cv2.INTER_AREA)
    return cv2.resize(half, (size, size), interpolation=cv2.INTER_LINEAR)


def _noisy(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Rician noise of a magnitude image (Gudbjartsson and Patz, Magn. Reson. Med. 34(6), 1995)."""
    real, imaginary = rng.normal(0, 0.08, (2, *image.shape))
    return np.hypot(image + real, imaginary)


def _shaded(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A surface coil at the top: brightness falls to 40 % along a curve."""
    distance = np.linspace(0, 1, image.shape[0])[:, None]
    return image * (1 - 0.6 * distance**1.5)


def _pale(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Little contrast between tissues: dark greys lifted."""
    return image**0.5


def _dark(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A window chosen for the brightest tissue."""
    return image**2


def _other_sequence(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Dark and middle greys are exchanged, roughly like fluid and tissue from T1 to T2."""
    return np.interp(image, [0, 0.08, 0.25, 0.5, 0.75, 1], [0, 0.15, 0.75, 0.35, 0.55, 0.9])


_CHANGES = (_soft, _noisy, _shaded, _pale, _dark, _other_sequence)
SHIFTS: dict[str, Callable[[np.ndarray, np.random.Generator], np.ndarray]] = {f.__name__[1:]: f for f in _CHANGES}
"""Name -> change of a (size, size) image of 0 to 1."""
