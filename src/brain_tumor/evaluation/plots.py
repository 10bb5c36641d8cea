"""Figures for a report and for print.

Colours are told apart by colour-blind readers, or a line style tells them apart.
"""

from pathlib import Path

import numpy as np
import pandas as pd
import seaborn
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, PercentFormatter

from brain_tumor.evaluation.figures import figure_file

_DASHES = ("-", "--", "-.", ":")


def confusion_png(path: Path | str, counts: pd.DataFrame, title: str) -> None:
    """Draw a confusion matrix: counts, and the share of the row by text and by colour.

    Args:
        path: PNG file to write.
        counts: images by actual class (index) and predicted class (columns), as `curves.confusion_counts`
            gives; every row has at least one image.
        title: what the matrix is of.
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
            linecolor="white",
            cbar_kws={"label": "share of the actual class", "format": PercentFormatter(1)},
            ax=axes,
        )
        upright = max(map(len, counts.columns)) * 0.08 > cell  # inches a character, about
        axes.set_xticklabels(
            counts.columns, rotation=40 if upright else 0, ha="right" if upright else "center", rotation_mode="anchor"
        )
        axes.set_yticklabels([f"{name}\nn = {total}" for name, total in totals.items()], rotation=0)
        axes.set(title=title, xlabel="predicted class", ylabel="actual class")


def roc_png(path: Path | str, curves: pd.DataFrame, areas: dict[str, float], title: str) -> None:
    """Draw one-vs-rest ROC curves with their areas in the legend.

    Args:
        path: PNG file to write.
        curves: `fpr` and a column of true-positive rates per class, as `curves.roc_curves` gives.
        areas: class -> area under its curve, as `curves.roc_areas` gives.
        title: what the curves are of.
    """
    with figure_file(path, 7.5, 4.2) as figure:
        axes = figure.subplots()
        # The grid starts at the height of the first vertical rise; the curve starts at the origin.
        rises = pd.concat([pd.DataFrame(0.0, [0], curves.columns), curves])
        _class_curves(axes, rises, "fpr", areas)
        axes.plot([0, 1], [0, 1], color="0.5", linewidth=0.8, label="0.500  chance")
        axes.set(title=title, xlabel="false-positive rate", ylabel="true-positive rate")
        _legend_beside(axes, "area under the curve, class against the rest")


def precision_recall_png(path: Path | str, curves: pd.DataFrame, averages: dict[str, float], title: str) -> None:
    """Draw one-vs-rest precision by recall with the average precisions in the legend.

    Args:
        path: PNG file to write.
        curves: `recall` and a column of precisions per class, as `curves.precision_recall_curves` gives.
        averages: class -> average precision, as `curves.average_precisions` gives.
        title: what the curves are of.
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
        axes.plot(curves[x], curves[name], color=colors[i], linestyle=dashes, label=f"{score:.3f}  {name}")
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), aspect="equal")


def _legend_beside(axes: Axes, title: str) -> None:
    axes.legend(title=title, alignment="left", loc="center left", bbox_to_anchor=(1, 0.5))


def training_png(path: Path | str, histories: dict[int, pd.DataFrame]) -> None:
    """Draw loss and validation macro-F1 by epoch, a colour per fold, with the chosen epoch marked.

    Args:
        path: PNG file to write.
        histories: fold -> a row per epoch with columns epoch, train_loss, validation_loss and
            validation_macro_f1. The chosen epoch is the first one of best macro-F1.
    """
    colors = seaborn.color_palette("colorblind", len(histories))
    with figure_file(path, 10, 3.6) as figure:
        loss, score = figure.subplots(1, 2)
        key = []
        for i, (fold, history) in enumerate(sorted(histories.items())):
            epoch = history["epoch"]
            dots = {"color": colors[i], "marker": ".", "markersize": 3}
            loss.plot(epoch, history["train_loss"], linestyle=":", **dots)
            loss.plot(epoch, history["validation_loss"], **dots)
            score.plot(epoch, history["validation_macro_f1"], **dots)
            best = history.loc[history["validation_macro_f1"].idxmax()]
            chosen = {"color": colors[i], "marker": "o", "markersize": 7, "markeredgecolor": "black", "zorder": 3}
            loss.plot(best["epoch"], best["validation_loss"], **chosen)
            score.plot(best["epoch"], best["validation_macro_f1"], **chosen)
            key.append(Line2D([], [], color=colors[i], label=f"fold {fold}"))
        key += [
            Line2D([], [], color="0.3", label="validation"),
            Line2D([], [], color="0.3", linestyle=":", label="training"),
            Line2D([], [], color="0.7", linestyle="", marker="o", markeredgecolor="black", label="chosen epoch"),
        ]
        loss.set(title="Loss", xlabel="epoch", ylabel="cross-entropy (nats)")
        loss.set_ylim(0, 1.05 * loss.dataLim.ymax)
        score.set(title="Validation macro-F1", xlabel="epoch", ylabel="macro-F1")
        for axes in (loss, score):
            axes.set_xlim(0.5, max(history["epoch"].max() for history in histories.values()) + 0.5)
            axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        figure.legend(handles=key, loc="outside right center")


def shortcuts_png(path: Path | str, rows: pd.DataFrame, chance: float) -> None:
    """Draw how well each control tells the class, with intervals, beside chance.

    Args:
        path: PNG file to write.
        rows: columns source ("file", "network"), control, balanced_accuracy and its _ci_low and _ci_high.
        chance: balanced accuracy of guessing, one by the number of classes.
    """
    with figure_file(path, 7.5, 0.34 * max(len(rows), 1) + 1.2) as figure:
        axes = figure.subplots()
        colors = dict(zip(("file", "network"), seaborn.color_palette("colorblind", 2), strict=True))
        for place, row in enumerate(rows.itertuples()):
            score = row.balanced_accuracy
            spread = [[score - row.balanced_accuracy_ci_low], [row.balanced_accuracy_ci_high - score]]
            axes.barh(place, score, color=colors[row.source], height=0.7)
            axes.errorbar(score, place, xerr=spread, color="black", linewidth=1, capsize=3)
        axes.axvline(chance, color="0.4", linestyle="--", linewidth=1)
        names = {"file": "file: ", "network": "network: "}
        labels = [names[row.source] + row.control.replace("_", " ") for row in rows.itertuples()]
        axes.set_yticks(range(len(rows)), labels)
        axes.invert_yaxis()
        axes.set(
            xlim=(0, 1), xlabel=f"balanced accuracy, 95 % interval over patient groups (dashed: chance, {chance:.2f})"
        )
        axes.set_title("What tells the class without looking at the disease", loc="left")
        axes.grid(axis="y", visible=False)
