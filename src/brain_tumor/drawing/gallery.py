"""Pages of small pictures for a person to judge. They show images of the data set: in DVC's cache, never in git."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from brain_tumor.drawing.style import figure_file
from brain_tumor.imaging.decoding import decode
from brain_tumor.imaging.preprocessing import resize_square

MOST = 52
"""Largest number of findings of a kind on a page."""

_EDGE = 192  # of an image on the page, in pixels


def gallery_png(
    path: Path | str,
    cells: Sequence[tuple[np.ndarray, str]],
    title: str,
    *,
    columns: int,
    width: float,
    line_height: float,
    caption_size: float,
) -> None:
    """Draw pictures with captions in lines.

    Args:
        path: PNG file to write.
        cells: pictures, (h, w) uint8 grey or (h, w, 3) uint8 RGB, and captions; if empty, the page says so.
        title: of the page.
        columns: number of cells per line.
        width, line_height: in inches.
        caption_size: in points.
    """
    lines = max(-(-len(cells) // columns), 1)
    with figure_file(path, width, lines * line_height + 0.4, dpi=110) as figure:
        figure.suptitle(title if len(cells) else f"{title}: none", fontsize=11, fontweight="bold")
        for axes, (picture, caption) in zip(figure.subplots(lines, columns, squeeze=False).flat, cells, strict=False):
            axes.imshow(picture, cmap="gray", vmin=0, vmax=255)
            axes.set_title(caption, fontsize=caption_size, fontweight="normal")
        for axes in figure.axes:
            axes.set_axis_off()


def file_gallery_png(
    path: Path | str, root: Path | str, rows: Sequence[tuple[Sequence[str], str]], title: str, images: int
) -> None:
    """Draw findings about image files, the images of a finding side by side.

    Args:
        path: PNG file to write.
        root: of the data set.
        rows: (paths of the images of a finding, caption).
        title: of the page.
        images: number of images per finding, 1 or 2.
    """
    gap = np.full((_EDGE, 4), 255, np.uint8)
    cells = []
    for paths, caption in rows:
        pictures = [resize_square(decode((Path(root) / name).read_bytes()), _EDGE) for name in paths]
        cells.append((np.hstack([part for picture in pictures for part in (gap, picture)]), caption))
    gallery_png(path, cells, title, columns=8 // images, width=14.4, line_height=2.35, caption_size=7)


def kinds_png(path: Path | str, pictures: dict[str, np.ndarray]) -> None:
    """Draw the first eight pictures of each kind, one line per kind.

    Args:
        path: PNG file to write.
        pictures: kind -> (n, size, size) uint8.
    """
    with figure_file(path, 8.8, len(pictures) * 1.1 + 0.2, dpi=110) as figure:
        for line, (kind, images) in zip(figure.subplots(len(pictures), 8), pictures.items(), strict=True):
            line[0].set_title(kind, fontsize=8, loc="left", fontweight="normal")
            for axes in line:
                axes.set_axis_off()
            for axes, image in zip(line, images, strict=False):
                axes.imshow(image, cmap="gray", vmin=0, vmax=255)
