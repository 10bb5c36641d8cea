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
    """
    left, top, right, bottom = head_box(grey) if preprocessing.crop else (0, 0, *grey.shape[::-1])
    width, height = right - left, bottom - top
    edge = max(width, height)
    return left - (edge - width) // 2, top - (edge - height) // 2, edge
