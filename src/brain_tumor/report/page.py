"""A self-contained page about a run: no scripts, no requests, readable on a phone and in print."""

import base64
from collections.abc import Mapping
from pathlib import Path

import cv2
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from brain_tumor.evaluation.cohorts import description
from brain_tumor.files import write_text

# Pages of photographs become JPEGs: a tenth of the size of the PNG, and they contain no fine print.
_PHOTOGRAPHS_FROM = 400_000  # bytes


def write_report(path: Path | str, metrics: Mapping[str, dict], pictures: Mapping[str, Path], **facts: object) -> None:
    """Write the page.

    Args:
        path: HTML file to write.
        metrics: name of each metrics file (audit, audit_model, export, maps, novelty, robustness, test, validation)
            -> its content.
        pictures: name -> image file; the page leaves out pictures that are missing.
        facts: params (nested dict), params_text (content of the file) and fingerprint of the data.
    """
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined, trim_blocks=False
    )
    headline = next(iter(metrics["test"]))
    page = environment.get_template("page.html").render(
        **metrics,
        **facts,
        headline_name=headline,
        headline=metrics["test"][headline],
        description=description,
        pictures={name: embedded(file) for name, file in pictures.items()},
    )
    write_text(path, page + "\n")


def embedded(path: Path) -> dict:
    """source (a data URL), width and height (in CSS pixels) of an image file; a large PNG becomes a JPEG."""
    content, kind = path.read_bytes(), "png"
    pixels = cv2.imread(str(path))
    if len(content) > _PHOTOGRAPHS_FROM:
        content, kind = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, 82])[1].tobytes(), "jpeg"
    height, width = (side // 2 for side in pixels.shape[:2])  # drawn for screens of double density
    return {
        "source": f"data:image/{kind};base64,{base64.b64encode(content).decode()}",
        "width": width,
        "height": height,
    }
