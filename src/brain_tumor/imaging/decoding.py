"""From the bytes of an image file to a grey image."""

import cv2
import numpy as np

from brain_tumor import MAX_PIXELS

IMAGE_SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".tif", ".tiff", ".webp"})
"""Of the files that `decode` reads, in lower case."""


class UnreadableImage(ValueError):
    """The bytes are not an image that can be used; the message says why."""


def decode(data: bytes) -> np.ndarray:
    """Decode an image file to (height, width) uint8 grey; 16-bit files are scaled by the range of their values.

    Args:
        data: content of an image file in any format that OpenCV reads; colour becomes grey.

    Raises:
        UnreadableImage: the bytes are empty, no image, truncated, or an image of a senseless size.
    """
    if not data:
        raise UnreadableImage("the file is empty")
    try:
        grey = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE | cv2.IMREAD_ANYDEPTH)
    except cv2.error as error:
        raise UnreadableImage(f"the decoder refused it: {error.err or 'unknown reason'}") from error
    if grey is None:
        raise UnreadableImage("not an image, truncated, or in a format that OpenCV does not read")
    if min(grey.shape) < 2 or grey.size > MAX_PIXELS:
        raise UnreadableImage(f"expected 2 pixels or more a side and at most {MAX_PIXELS:,}, got {grey.shape[::-1]}")
    if grey.dtype == np.uint8:
        return grey
    if grey.dtype != np.uint16:
        raise UnreadableImage(f"expected 8 or 16 bits a pixel, got {grey.dtype}")
    low, high = int(grey.min()), int(grey.max())
    return ((grey.astype(np.uint32) - low) * 255 // max(high - low, 1)).astype(np.uint8)
