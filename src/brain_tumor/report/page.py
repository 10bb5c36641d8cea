"""A self-contained page about a run: no scripts, no requests, readable on a phone, on a dark screen and in print."""

import base64
import re
from collections.abc import Mapping
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from brain_tumor.drawing.gallery import read_gallery
from brain_tumor.evaluation.cohorts import description
from brain_tumor.files import write_text
from brain_tumor.report.weaknesses import weaknesses
from brain_tumor.words import words


def write_report(
    path: Path | str,
    metrics: Mapping[str, dict],
    figures: Mapping[str, Path],
    galleries: Mapping[str, Path],
    params: dict,
    **facts: object,
) -> None:
    """Write the page.

    Args:
        path: HTML file to write.
        metrics: name of each metrics file (audit, audit_model, export, maps, novelty, robustness, test, validation)
            -> its content.
        figures: name -> SVG file that `drawing.style.figure_file` wrote; the page leaves out those that are missing.
        galleries: name -> page of `drawing.gallery`; likewise.
        params: content of params.yaml.
        facts: params_text (content of the file), simulated (whether the scans are), version (of the package), and
            fingerprints (of what -> SHA-256).
    """
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined, trim_blocks=False
    )
    environment.filters["words"] = words
    headline, options = next(iter(metrics["test"])), params["evaluate"]
    targets = {name: options[name] for name in ("healthy_class", "target_error", "target_miss")}
    page = environment.get_template("page.html").render(
        **metrics,
        **facts,
        params=params,
        headline_name=headline,
        headline=metrics["test"][headline],
        weaknesses=weaknesses(metrics, headline, **targets),
        description=description,
        figures={name: _figure(file) for name, file in figures.items()},
        galleries={name: _gallery(file) for name, file in galleries.items()},
    )
    write_text(path, page + "\n")


def _figure(path: Path) -> dict:
    """source (a data URL), width and height (in CSS pixels) of an SVG file."""
    content = path.read_bytes()
    width, height = (float(re.search(rf'{side}="([\d.]+)pt"'.encode(), content)[1]) for side in ("width", "height"))
    source = f"data:image/svg+xml;base64,{base64.b64encode(content).decode()}"
    return {"source": source, "width": round(width * 4 / 3), "height": round(height * 4 / 3)}


def _gallery(path: Path) -> dict:
    """title and cells (HTML list items) of a gallery, and whether its pictures are wide."""
    title, cells = read_gallery(path)
    width, height = map(int, re.search(r'width="(\d+)" height="(\d+)"', cells[0]).groups()) if cells else (1, 1)
    return {"title": title, "cells": [Markup(cell) for cell in cells], "wide": width > 1.5 * height}
