"""An activation map in colour over its scan: transparent where it is 0 or less, brightest at its maximum."""

import cv2
import numpy as np

_OPACITY = 0.65  # at the maximum


def overlaid(pixels: np.ndarray, values: np.ndarray) -> np.ndarray:
    """A scan with an activation map over it.

    Args:
        pixels: (h, w) uint8.
        values: (rows, columns) float, resized to the whole scan.

    Returns:
        (h, w, 3) uint8, RGB.
    """
    return laid_over(pixels, map_layer(values, pixels.shape))


def map_layer(values: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """The layer of an activation map for a scan of the shape (h, w), as (h, w, 4) uint8 RGBA; see `overlaid`."""
    heat = np.maximum(values.astype(np.float32), 0)
    heat = cv2.resize(heat / max(float(heat.max()), 1e-6), shape[::-1], interpolation=cv2.INTER_CUBIC).clip(0, 1)
    colors = cv2.cvtColor(cv2.applyColorMap((heat * 255).astype(np.uint8), cv2.COLORMAP_INFERNO), cv2.COLOR_BGR2RGB)
    return np.dstack([colors, (255 * _OPACITY * heat).round().astype(np.uint8)])


def laid_over(pixels: np.ndarray, layer: np.ndarray) -> np.ndarray:
    """An (h, w, 4) uint8 RGBA layer over an (h, w) uint8 scan, as (h, w, 3) uint8 RGB."""
    share = layer[..., 3:] / 255
    return (pixels[..., None] * (1 - share) + layer[..., :3] * share).round().astype(np.uint8)
