"""Pictures: JPEG, PNG, TIFF and what else OpenCV decodes."""

import numpy as np

from brain_tumor.imaging.decoding import UnreadableImage, decode
from brain_tumor.serving.readers.common import choose, too_large


def read_picture(data: bytes, wanted: str | int, max_pixels: int) -> list[tuple[int | None, np.ndarray]]:
    """The picture as its only slice; see `formats.read_scans`."""
    try:
        grey = decode(data)
    except UnreadableImage as error:
        if "CV_IO_MAX_IMAGE" in str(error):  # OpenCV's name for its own limit, which this package sets
            raise too_large("a larger picture", max_pixels) from error
        raise
    if grey.size > max_pixels:
        raise too_large(f"{grey.shape[1]} x {grey.shape[0]}", max_pixels)
    choose(wanted, 1, [0])
    return [(None, grey)]
