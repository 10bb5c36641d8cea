"""Pictures: JPEG, PNG, TIFF and what else OpenCV decodes."""

from collections.abc import Sequence

from brain_tumor.imaging.decoding import UnreadableImage, decode_pages
from brain_tumor.serving.readers.common import Slices, choose, too_large


def read_picture(data: bytes, wanted: str | int, max_pixels: int) -> Slices:
    """The picture, or the wanted pages of a TIFF file or frames of an animation; see `formats.read_scans`."""
    count = 1

    def chosen(pages: int) -> Sequence[int]:
        nonlocal count
        count = pages
        return choose(wanted, pages, [pages // 2])

    try:
        pages = decode_pages(data, chosen, max_pixels)
    except UnreadableImage as error:
        if "CV_IO_MAX_IMAGE" in str(error):  # OpenCV's name for its own limit, which this package sets
            raise too_large("a larger picture", max_pixels) from error
        raise
    for _, grey in pages:
        if grey.size > max_pixels:
            raise too_large(f"{grey.shape[1]} x {grey.shape[0]}", max_pixels)
    return Slices(count, {number or 0: grey for number, grey in pages})
