"""PNG files with the same bytes for the same numbers: one style, no traces of the program or the moment.

Drawn through matplotlib's object interface under one fixed style, so that neither the user's matplotlibrc nor
an earlier plot changes them.
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
    "text.parse_math": False,  # names of classes are shown as they are, "$" included
}


@contextmanager
def figure_file(path: Path | str, width: float, height: float, dpi: int = 200) -> Iterator[Figure]:
    """Yield an empty figure (inches); what the block draws takes the place of the PNG file at `path`."""
    with matplotlib.style.context(["default", _STYLE]), replacing_file(path) as partial:
        figure = Figure(figsize=(width, height), layout="compressed")
        yield figure
        # matplotlib writes its name and version into the file unless told not to.
        figure.savefig(partial, format="png", dpi=dpi, bbox_inches="tight", metadata={"Software": None})
