"""Pictures: JPEG, PNG, TIFF and what else OpenCV decodes."""

import numpy as np

from brain_tumor.imaging.decoding import UnreadableImage, decode_pages
from brain_tumor.serving.readers.common import choose, too_large


def read_picture(data: bytes, wanted: str | int, max_pixels: int) -> list[tuple[int | None, np.ndarray]]:
    """The picture, or the wanted pages of a TIFF file or frames of an animation; see `formats.read_scans`."""
    try:
        pages = decode_pages(data, lambda count: choose(wanted, count, [count // 2]), max_pixels)
    except UnreadableImage as error:
        if "CV_IO_MAX_IMAGE" in str(error):  # OpenCV's name for its own limit, which this package sets
            raise too_large("a larger picture", max_pixels) from error
        raise
    for _, grey in pages:
        if grey.size > max_pixels:
            raise too_large(f"{grey.shape[1]} x {grey.shape[0]}", max_pixels)
    return pages
