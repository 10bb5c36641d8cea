"""Which part of a scan the network sees: from the prepared image back to the scan."""

import numpy as np

from brain_tumor.imaging.preprocessing import Preprocessing, head_box


def seen_square(grey: np.ndarray, preprocessing: Preprocessing) -> tuple[int, int, int]:
    """The square of a scan that becomes the prepared image; where it reaches beyond the scan it is black.

    Args:
        grey: (height, width) uint8, the decoded scan.
        preprocessing: how it is prepared.

    Returns:
        left, top and edge in pixels of the scan.

    Example:
        >>> scan = np.zeros((200, 160), np.uint8)
        >>> scan[40:120, 30:130] = 180
        >>> seen_square(scan, Preprocessing(size=64, crop=True, clip=0.5))
        (30, 30, 100)
    """
    left, top, right, bottom = head_box(grey) if preprocessing.crop else (0, 0, *grey.shape[::-1])
    width, height = right - left, bottom - top
    edge = max(width, height)
    return left - (edge - width) // 2, top - (edge - height) // 2, edge
