"""Traits of a file that depend on its source and not on the disease: size, borders, grey levels, JPEG quality."""

import io

import numpy as np
from PIL import Image

from brain_tumor.imaging.preprocessing import head_box

KINDS = {
    "size": ["width", "height"],
    "aspect": ["aspect"],
    "border": ["ring_mean", "ring_deviation", "left", "right", "top", "bottom"],
    "histogram": [f"level_{k}" for k in range(16)],
    "jpeg": ["quantiser", "bits_per_pixel"],
}
"""Kind of trait -> columns of the table of traits."""

_RING = 0.04  # width of the outermost ring, share of the shorter edge


def traits(data: bytes, grey: np.ndarray) -> dict[str, float]:
    """Traits of one image file, by the names in `KINDS`.

    Args:
        data: content of the file.
        grey: (height, width) uint8, what it decodes to.

    Returns:
        width, height in pixels; aspect = width / height; mean and standard deviation of the outermost ring in
        grey levels; what lies outside the box of the head at each edge, as a share of the image; the share of
        pixels in 16 ranges of grey; mean step of the JPEG quantisation table (small: high quality; 0: not a JPEG);
        bits of the file per pixel.
    """
    height, width = grey.shape
    ring = max(round(min(height, width) * _RING), 1)
    inside = np.zeros(grey.shape, bool)
    inside[ring:-ring, ring:-ring] = True
    outermost = grey[~inside]
    left, top, right, bottom = head_box(grey)
    levels = np.bincount(grey.ravel() // 16, minlength=16) / grey.size
    return {
        "width": width,
        "height": height,
        "aspect": width / height,
        "ring_mean": outermost.mean(),
        "ring_deviation": outermost.std(),
        "left": left / width,
        "right": 1 - right / width,
        "top": top / height,
        "bottom": 1 - bottom / height,
        **{f"level_{k}": share for k, share in enumerate(levels.tolist())},
        "quantiser": _quantiser(data),
        "bits_per_pixel": len(data) * 8 / grey.size,
    }


def _quantiser(data: bytes) -> float:
    try:
        with Image.open(io.BytesIO(data)) as image:
            tables = getattr(image, "quantization", None)
    except (OSError, ValueError, Image.DecompressionBombError):  # a format that OpenCV alone reads
        return 0.0
    return float(np.mean(tables[0])) if tables else 0.0
