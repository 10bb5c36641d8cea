"""Confusion matrix, ROC and precision-recall curves.

Classes differ in colour, chosen for colour-blind readers, and in line style.
"""

from pathlib import Path

import numpy as np
import pandas as pd
import seaborn
from matplotlib.axes import Axes
from matplotlib.ticker import PercentFormatter

from brain_tumor.drawing.style import PAPER, QUIET, figure_file
from brain_tumor.words import words

_DASHES = ("-", "--", "-.", ":")


def confusion_svg(path: Path | str, counts: pd.DataFrame, title: str) -> None:
    """Draw a confusion matrix; each cell shows its count and, also by colour, its share of the row.

    Args:
        path: SVG file to write.
        counts: images by actual class (index) and predicted class (columns), as `metrics.curves.confusion_counts`
            returns; every row has at least one image.
        title: of the figure.
    """
    totals = counts.sum(axis=1)
    shares = counts.div(totals, axis=0)
    text = [
        [f"{count}\n{share:.1%}" for count, share in zip(*row, strict=True)]
        for row in zip(counts.to_numpy(), shares.to_numpy(), strict=True)
    ]
    cell = np.clip(6 / len(counts.columns), 0.65, 1.4)  # inches
    with figure_file(path, cell * len(counts.columns) + 3, cell * len(counts) + 2) as figure:
        axes = figure.subplots()
        seaborn.heatmap(
            shares,
            vmin=0,
            vmax=1,
            cmap="Blues",
            annot=text,
            annot_kws={"size": max(9, 8 * cell)},
            fmt="",
            square=True,
            linewidths=1,
            linecolor=PAPER,
            cbar_kws={"label": "share of the actual class", "format": PercentFormatter(1)},
            ax=axes,
        )
        names = list(map(words, counts.columns))
        upright = max(map(len, names)) * 0.08 > cell  # a character is about 0.08 inches wide
        axes.set_xticklabels(
            names, rotation=40 if upright else 0, ha="right" if upright else "center", rotation_mode="anchor"
        )
        axes.set_yticklabels([f"{name}\nn = {total}" for name, total in zip(names, totals, strict=True)], rotation=0)
        axes.set(title=title, xlabel="predicted class", ylabel="actual class")


def roc_svg(path: Path | str, curves: pd.DataFrame, areas: dict[str, float], title: str) -> None:
    """Draw one-vs-rest ROC curves with the ROC-AUC of each class in the legend.

    Args:
        path: SVG file to write.
        curves: `fpr` and a column of true-positive rates per class, as `metrics.curves.roc_curves` returns.
        areas: class -> ROC-AUC, as `metrics.curves.roc_areas` returns.
        title: of the figure.
    """
    with figure_file(path, 7.5, 4.2) as figure:
        axes = figure.subplots()
        # The first point of the grid is the top of the first vertical rise; the curve itself starts at the origin.
        rises = pd.concat([pd.DataFrame(0.0, [0], curves.columns), curves])
        _class_curves(axes, rises, "fpr", areas)
        axes.plot([0, 1], [0, 1], color=QUIET, linewidth=0.8, label="0.500  chance")
        axes.set(title=title, xlabel="false-positive rate", ylabel="true-positive rate")
        _legend_beside(axes, "area under the curve, class against the rest")


def precision_recall_svg(path: Path | str, curves: pd.DataFrame, averages: dict[str, float], title: str) -> None:
    """Draw one-vs-rest precision-recall curves with the average precision of each class in the legend.

    Args:
        path: SVG file to write.
        curves: `recall` and a column of precisions per class, as `metrics.curves.precision_recall_curves` returns.
        averages: class -> average precision, as `metrics.curves.average_precisions` returns.
        title: of the figure.
    """
    with figure_file(path, 7.5, 4.2) as figure:
        axes = figure.subplots()
        _class_curves(axes, curves, "recall", averages)
        axes.set(title=title, xlabel="recall", ylabel="precision")
        _legend_beside(axes, "average precision, class against the rest")


def _class_curves(axes: Axes, curves: pd.DataFrame, x: str, scores: dict[str, float]) -> None:
    colors = seaborn.color_palette("colorblind", len(scores))
    for i, (name, score) in enumerate(scores.items()):
        dashes = _DASHES[i % len(_DASHES)]
        axes.plot(curves[x], curves[name], color=colors[i], linestyle=dashes, label=f"{score:.3f}  {words(name)}")
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), aspect="equal")


def _legend_beside(axes: Axes, title: str) -> None:
    axes.legend(title=title, alignment="left", loc="center left", bbox_to_anchor=(1, 0.5))
