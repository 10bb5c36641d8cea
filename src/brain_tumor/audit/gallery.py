"""Pictures of findings for a person to judge. They show images of the data set: DVC caches them, git never has them."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from brain_tumor.evaluation.figures import figure_file
from brain_tumor.imaging import decode, resize_square

MOST = 52
"""Findings of a kind that a page shows."""

_EDGE = 192  # pixels an image is shown with


def gallery_png(
    path: Path | str, root: Path | str, rows: Sequence[tuple[Sequence[str], str]], title: str, images: int
) -> None:
    """Draw images side by side, one cell per finding.

    Args:
        path: PNG file to write.
        root: of the data set.
        rows: (paths of the images of a finding, caption); an empty list gives a page that says so.
        title: of the page.
        images: per finding, 1 or 2.
    """
    columns = 8 // images
    lines = max(-(-len(rows) // columns), 1)
    with figure_file(path, 14.4, lines * 2.35 + 0.4, dpi=110) as figure:
        figure.suptitle(title if len(rows) else f"{title}: none", fontsize=11, fontweight="bold")
        for axes, (paths, caption) in zip(figure.subplots(lines, columns, squeeze=False).flat, rows, strict=False):
            pictures = [resize_square(decode((Path(root) / name).read_bytes()), _EDGE) for name in paths]
            gap = np.full((_EDGE, 4), 255, np.uint8)
            strip = np.hstack([part for picture in pictures for part in (gap, picture)])
            axes.imshow(strip, cmap="gray", vmin=0, vmax=255)
            axes.set_title(caption, fontsize=7, fontweight="normal")
        for axes in figure.axes:
            axes.set_axis_off()
