"""Copies as people make them, planted on scans: the truth for the tests of the audit."""

import cv2
import numpy as np

from brain_tumor.imaging.preprocessing import head_box

KINDS = ("recompressed", "resized", "brightness", "saturated", "border", "cropped")


def plant(grey: np.ndarray, kind: str, random: np.random.Generator) -> bytes:
    """A JPEG of the scan after one kind of change, in one of the eight orientations.

    recompressed: quality 25 to 70; resized: to 0.35 to 1.5 of its edges; brightness: contrast times 0.6 to 1.4 and
    35 grey levels to either side; saturated: 1.4 to 2.2 times as bright, clipped; border: up to 15 % of the edge at
    each side, black, dark grey, grey or white; cropped: up to 10 % of the head's box at each side.
    """
    height, width = grey.shape
    quality = int(random.integers(75, 96))
    if kind == "recompressed":
        quality = int(random.integers(25, 70))
    elif kind == "resized":
        scale = random.uniform(0.35, 1.5)
        size = max(48, round(width * scale)), max(48, round(height * scale))
        grey = cv2.resize(grey, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    elif kind == "brightness":
        changed = (grey.astype(float) - 128) * random.uniform(0.6, 1.4) + 128 + random.uniform(-35, 35)
        grey = changed.clip(0, 255).astype(np.uint8)
    elif kind == "saturated":
        grey = (grey * random.uniform(1.4, 2.2) - random.uniform(0, 30)).clip(0, 255).astype(np.uint8)
    elif kind == "border":
        edges = [round(random.uniform(0, 0.15) * edge) for edge in (height, height, width, width)]
        grey = cv2.copyMakeBorder(grey, *edges, cv2.BORDER_CONSTANT, value=int(random.choice([0, 40, 128, 255])))
    elif kind == "cropped":
        left, top, right, bottom = head_box(grey)
        cut = random.uniform(0, 0.1, 4) * [bottom - top, bottom - top, right - left, right - left]
        rows = slice(top + int(cut[0]), bottom - int(cut[1]))
        grey = grey[rows, left + int(cut[2]) : right - int(cut[3])]
    orientation = int(random.integers(8))
    grey = np.rot90(np.fliplr(grey) if orientation >= 4 else grey, orientation % 4)
    return cv2.imencode(".jpg", np.ascontiguousarray(grey), (cv2.IMWRITE_JPEG_QUALITY, quality))[1].tobytes()
