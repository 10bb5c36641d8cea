"""Scans without the brain, and with nothing but the brain: which of the two does a network rely on?"""

import cv2
import numpy as np

MASKS = ("brain_masked", "brain_only")

_FOREGROUND = 24  # grey levels
# How far the brain lies inside the outline of the head, as a share of the picture's edge: scalp and skull.
_SHELL = 0.09
_FILL = 64  # grey level of a masked brain: neither black nor bright


def masked(pixels: np.ndarray, mask: str) -> np.ndarray:
    """A prepared image without its brain, or with nothing but the brain.

    Args:
        pixels: (size, size) uint8, head bright on black.
        mask: "brain_masked" replaces the brain by a uniform grey; "brain_only" makes everything else black.

    Raises:
        ValueError: another mask.
    """
    inside = brain_region(pixels)
    if mask == "brain_masked":
        return np.where(inside, np.uint8(_FILL), pixels)
    if mask == "brain_only":
        return np.where(inside, pixels, np.uint8(0))
    raise ValueError(f"expected one of {MASKS}, got {mask!r}")


def brain_region(pixels: np.ndarray) -> np.ndarray:
    """Roughly where the brain lies: the convex hull of the head, shrunk by the thickness of scalp and skull.

    If a slice shows face and neck, they are part of it. It is empty if nothing in the image is bright.

    Args:
        pixels: (size, size) uint8, head bright on black.

    Returns:
        (size, size) bool.
    """
    size = pixels.shape[0]
    bright = (cv2.blur(pixels, (3, 3)) > _FOREGROUND).astype(np.uint8)
    count, parts, statistics, _ = cv2.connectedComponentsWithStats(bright)
    head = np.zeros_like(pixels)
    if count > 1:
        largest = 1 + int(statistics[1:, cv2.CC_STAT_AREA].argmax())
        outline = cv2.findNonZero((parts == largest).astype(np.uint8))
        cv2.fillConvexPoly(head, cv2.convexHull(outline), 1)
    shell = 2 * round(size * _SHELL) + 1
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (shell, shell))
    return cv2.erode(head, kernel, borderType=cv2.BORDER_CONSTANT, borderValue=0) > 0
