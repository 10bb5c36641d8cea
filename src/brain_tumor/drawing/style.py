"""One style for all figures, and PNG files with the same bytes for the same numbers.

Figures are drawn through matplotlib's object interface under one fixed style, so that neither the user's matplotlibrc
nor an earlier plot changes them. The files name no program version and no date.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import matplotlib.style
import seaborn
from matplotlib.figure import Figure

from brain_tumor.files import replacing_file

_STYLE = {
    **seaborn.axes_style("whitegrid"),
    "font.family": "DejaVu Sans",  # ships with matplotlib
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.edgecolor": "0.6",
    "grid.color": "0.9",
    "legend.frameon": False,
    "lines.linewidth": 1.4,
    "text.parse_math": False,  # class names are shown as they are, "$" included
}


@contextmanager
def figure_file(path: Path | str, width: float, height: float, dpi: int = 200) -> Iterator[Figure]:
    """Yield an empty figure of this size in inches, which the block draws on, and write it to the PNG file `path`."""
    with matplotlib.style.context(["default", _STYLE]), replacing_file(path) as partial:
        figure = Figure(figsize=(width, height), layout="compressed")
        yield figure
        # matplotlib writes its name and version into the file unless told not to.
        figure.savefig(partial, format="png", dpi=dpi, bbox_inches="tight", metadata={"Software": None})
