"""Pages of small pictures for a person to judge. They show images of the data set: in DVC's cache, never in git.

A page is one HTML file, so that its captions are text: they can be read on any screen, searched and copied.
"""

import base64
import re
from collections.abc import Sequence
from html import escape, unescape
from pathlib import Path

import cv2
import numpy as np

from brain_tumor.files import write_text
from brain_tumor.imaging.decoding import decode
from brain_tumor.imaging.preprocessing import resize_square

MOST = 52
"""Largest number of findings of a kind on a page."""

_EDGE = 224  # of an image of the data set on the page, in pixels
_GAP = 4  # pixels between images that stand side by side
_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<style>
body {{ margin: 1.5rem; font: 15px/1.4 system-ui, "DejaVu Sans", sans-serif; }}
h1 {{ font-size: 1.2rem; }}
.gallery {{ display: grid; grid-template-columns: repeat(auto-fill, minmax({edge}rem, 1fr)); gap: 1.2rem; padding: 0; }}
.gallery {{ list-style: none; overflow-wrap: anywhere; white-space: pre-line; }}
.gallery img {{ display: block; width: 100%; height: auto; }}
</style>
</head>
<body>
<h1>{title}</h1>
<ol class="gallery">
{cells}
</ol>
</body>
</html>
"""


def gallery_html(path: Path | str, cells: Sequence[tuple[np.ndarray, str]], title: str) -> None:
    """Write a page of pictures with captions.

    Args:
        path: HTML file to write.
        cells: pictures, (h, w) uint8 grey or (h, w, 3) uint8 RGB, and captions, which may have several lines.
        title: of the page; if there are no cells, it says so.
    """
    items = "\n".join(_item(number, *cell) for number, cell in enumerate(cells, start=1))
    edge = 22 if cells and cells[0][0].shape[1] > 1.5 * cells[0][0].shape[0] else 11
    title = title if len(cells) else f"{title}: none"
    write_text(path, _PAGE.format(title=escape(title), cells=items, edge=edge))


def read_gallery(path: Path | str) -> tuple[str, list[str]]:
    """Title and cells, as HTML list items, of a page that `gallery_html` wrote, to be shown on another page."""
    page = Path(path).read_text(encoding="utf-8")
    return unescape(re.search(r"<h1>(.*)</h1>", page)[1]), re.findall(r"^<li>.*?</li>$", page, re.DOTALL | re.MULTILINE)


def side_by_side(pictures: Sequence[np.ndarray]) -> np.ndarray:
    """Pictures of the same height, (h, w) uint8 or (h, w, 3) uint8, with a white gap between them."""
    gap = np.full((pictures[0].shape[0], _GAP, *pictures[0].shape[2:]), 255, np.uint8)
    return np.hstack([part for picture in pictures for part in (gap, picture)][1:])


def file_gallery_html(
    path: Path | str, root: Path | str, rows: Sequence[tuple[Sequence[str], str]], title: str
) -> None:
    """Write a page of findings about image files, the images of a finding side by side.

    Args:
        path: HTML file to write.
        root: of the data set.
        rows: (paths of the images of a finding, caption).
        title: of the page.
    """
    cells = []
    for paths, caption in rows:
        pictures = [resize_square(decode((Path(root) / name).read_bytes()), _EDGE) for name in paths]
        cells.append((side_by_side(pictures), caption))
    gallery_html(path, cells, title)


def kinds_html(path: Path | str, pictures: dict[str, np.ndarray], title: str) -> None:
    """Write a page of the first four pictures of each kind, side by side.

    Args:
        path: HTML file to write.
        pictures: kind -> (n, size, size) uint8.
        title: of the page.
    """
    gallery_html(path, [(side_by_side(images[:4]), kind) for kind, images in pictures.items()], title)


def _item(number: int, picture: np.ndarray, caption: str) -> str:
    colours = picture if picture.ndim == 2 else cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
    content = base64.b64encode(cv2.imencode(".jpg", colours, [cv2.IMWRITE_JPEG_QUALITY, 85])[1]).decode()
    height, width = picture.shape[:2]
    source = f'src="data:image/jpeg;base64,{content}" width="{width}" height="{height}"'
    return f'<li><img {source} alt="Picture {number}">{escape(caption)}</li>'
