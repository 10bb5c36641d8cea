"""Robustness of a score to corruptions, and shortcuts: scores that are reached without the disease."""

from pathlib import Path

import pandas as pd
import seaborn

from brain_tumor.drawing.style import INK, QUIET, figure_file


def robustness_svg(path: Path | str, rows: pd.DataFrame, score: str, title: str) -> None:
    """Draw a score against the strength of each corruption, one small panel per corruption.

    Args:
        path: SVG file to write.
        rows: columns corruption, strength (0: unchanged images) and the score.
        score: name of its column.
        title: of the figure.
    """
    corruptions = list(dict.fromkeys(rows.loc[rows["strength"] > 0, "corruption"]))
    clean = rows.loc[rows["strength"] == 0, score].iloc[0]
    columns = 4
    lines = -(-len(corruptions) // columns)
    color = seaborn.color_palette("colorblind")[0]
    with figure_file(path, 8.4, 1.75 * lines + 0.5) as figure:
        figure.suptitle(title, fontsize=10, fontweight="bold")
        panels = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False)
        for axes, name in zip(panels.flat, corruptions, strict=False):
            part = rows[rows["corruption"] == name]
            axes.plot([0, *part["strength"]], [clean, *part[score]], color=color, marker="o", markersize=3)
            axes.axhline(clean, color=QUIET, linewidth=0.8, linestyle=":")
            axes.set_title(name.replace("_", " "), fontweight="normal")
            axes.set(ylim=(0, 1), xticks=sorted({0, *part["strength"]}))
        for axes in list(panels.flat)[len(corruptions) :]:
            axes.set_axis_off()
        figure.supxlabel("strength", fontsize=9)
        figure.supylabel(score.replace("_", " "), fontsize=9)


def shortcuts_svg(path: Path | str, rows: pd.DataFrame, chance: float) -> None:
    """Draw the balanced accuracy of each control with its interval, and the chance level.

    Args:
        path: SVG file to write.
        rows: columns source ("file", "network"), control, balanced_accuracy and its _ci_low and _ci_high.
        chance: balanced accuracy of guessing, 1 / number of classes.
    """
    with figure_file(path, 7.5, 0.34 * max(len(rows), 1) + 1.2) as figure:
        axes = figure.subplots()
        colors = dict(zip(("file", "network"), seaborn.color_palette("colorblind", 2), strict=True))
        for place, row in enumerate(rows.itertuples()):
            score = row.balanced_accuracy
            spread = [[score - row.balanced_accuracy_ci_low], [row.balanced_accuracy_ci_high - score]]
            axes.barh(place, score, color=colors[row.source], height=0.7)
            axes.errorbar(score, place, xerr=spread, color=INK, linewidth=1, capsize=3)
        axes.axvline(chance, color=QUIET, linestyle="--", linewidth=1)
        names = {"file": "file: ", "network": "network: "}
        labels = [names[row.source] + row.control.replace("_", " ") for row in rows.itertuples()]
        axes.set_yticks(range(len(rows)), labels)
        axes.invert_yaxis()
        axes.set(
            xlim=(0, 1), xlabel=f"balanced accuracy, 95 % interval over patient groups (dashed: chance, {chance:.2f})"
        )
        axes.set_title("What tells the class without looking at the disease", loc="left")
        axes.grid(axis="y", visible=False)
