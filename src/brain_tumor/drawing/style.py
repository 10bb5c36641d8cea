"""One style for all figures, and SVG files with the same bytes for the same numbers.

Figures are drawn through matplotlib's object interface under one fixed style, so that neither the user's matplotlibrc
nor an earlier plot changes them. The files name no program version and no date. Where the reader's screen is dark, the
paper becomes dark and ink light, by a style sheet in the file.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import matplotlib.style
import seaborn
from matplotlib.figure import Figure

from brain_tumor.files import replacing_file

INK, PAPER = "#1c2430", "#fefefe"
"""Of text, and of what a figure is drawn on. Data must not have these colours: they change on a dark screen."""
QUIET = "#7a8594"
"""Of reference lines, such as that of chance; readable on both."""

_GRID, _EDGE = "#e4e7eb", "#9aa3ae"
_DARK = {INK: "#e4e9ef", PAPER: "#12171d", _GRID: "#2b343f", _EDGE: "#5d6875"}
_STYLE = {
    **seaborn.axes_style("whitegrid"),
    "font.family": "DejaVu Sans",  # ships with matplotlib
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.edgecolor": _EDGE,
    "axes.facecolor": PAPER,
    "figure.facecolor": PAPER,
    "grid.color": _GRID,
    **dict.fromkeys(("text.color", "axes.labelcolor", "xtick.color", "ytick.color"), INK),
    "legend.frameon": False,
    "lines.linewidth": 1.4,
    "text.parse_math": False,  # class names are shown as they are, "$" included
    "svg.hashsalt": "brain-tumor",  # otherwise the names of clip paths are random
}


@contextmanager
def figure_file(path: Path | str, width: float, height: float) -> Iterator[Figure]:
    """Yield an empty figure of this size in inches, which the block draws on, and write it to the SVG file `path`."""
    with matplotlib.style.context(["default", _STYLE]), replacing_file(path) as partial:
        figure = Figure(figsize=(width, height), layout="compressed")
        yield figure
        # matplotlib writes its name and version and the date into the file unless told not to.
        figure.savefig(partial, format="svg", bbox_inches="tight", metadata={"Creator": None, "Date": None})
        head, tag, rest = partial.read_text(encoding="utf-8").partition("<defs>")
        partial.write_text(f"{head}{_dark_style()}\n {tag}{rest}", encoding="utf-8", newline="\n")


def _dark_style() -> str:
    rules = [
        f'[style*="{part}: {light}"]{{{part}:{dark}!important}}'
        for light, dark in _DARK.items()
        for part in ("fill", "stroke")
    ]
    return f"<style>@media screen and (prefers-color-scheme:dark){{{''.join(rules)}}}</style>"
