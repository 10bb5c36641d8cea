"""Reliability diagram and risk-coverage curve."""

from pathlib import Path

import pandas as pd
import seaborn
from matplotlib.ticker import PercentFormatter

from brain_tumor.drawing.style import QUIET, figure_file


def reliability_svg(path: Path | str, rows: pd.DataFrame, errors: dict[str, float], title: str) -> None:
    """Draw accuracy by confidence before and after calibration, and the number of images in each bin.

    Args:
        path: SVG file to write.
        rows: what `metrics.reliability.reliability_rows` returns.
        errors: value of the column `calibration` -> expected calibration error for the legend, in drawing order.
        title: of the figure.
    """
    colors = seaborn.color_palette("colorblind", len(errors))
    with figure_file(path, 5.2, 5.4) as figure:
        axes, counts = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
        axes.plot([0, 1], [0, 1], color=QUIET, linewidth=0.8, linestyle=":")
        for color, (name, error) in zip(colors, errors.items(), strict=True):
            part = rows[rows["calibration"] == name]
            look = {"color": color, "marker": "o", "markersize": 4}
            axes.plot(part["confidence"], part["accuracy"], label=f"{name}: ECE {error:.3f}", **look)
            counts.plot(part["confidence"], part["n"], **look)
        axes.set(title=title, ylabel="accuracy", xlim=(0, 1.02), ylim=(0, 1.02))
        axes.legend(loc="upper left")
        counts.set(xlabel="confidence (largest probability), mean of the bin", ylabel="images", yscale="log")
        counts.yaxis.set_major_formatter("{x:g}")  # powers of ten need math text, which the style turns off
        counts.yaxis.set_minor_formatter("")  # and is written where the axis spans about one power of ten


def risk_coverage_svg(path: Path | str, curve: pd.DataFrame, area: float, title: str) -> None:
    """Draw the error rate of the answered images against their share, the most confident images first.

    Args:
        path: SVG file to write.
        curve: what `metrics.selective.risk_coverage` returns.
        area: under the curve.
        title: of the figure.
    """
    with figure_file(path, 5.2, 3.6) as figure:
        axes = figure.subplots()
        axes.plot(curve["coverage"], curve["risk"], color=seaborn.color_palette("colorblind")[0])
        axes.axhline(curve["risk"].iloc[-1], color=QUIET, linewidth=0.8, linestyle=":")
        axes.set(title=title, xlabel="images answered, most confident first", ylabel="errors among them")
        axes.set(xlim=(0, 1.01), ylim=(0, max(1.15 * curve["risk"].max(), 0.01)))
        axes.xaxis.set_major_formatter(PercentFormatter(1))
        axes.yaxis.set_major_formatter(PercentFormatter(1))
        axes.text(0.02, 0.95, f"area under the curve {area:.4f}", transform=axes.transAxes, va="top")
