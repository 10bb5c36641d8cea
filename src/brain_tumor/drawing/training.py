"""Learning curves."""

from pathlib import Path

import pandas as pd
import seaborn
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from brain_tumor.drawing.style import INK, QUIET, figure_file


def training_svg(path: Path | str, histories: dict[int, pd.DataFrame], *, best: bool) -> None:
    """Draw the loss and the validation macro-F1 of each epoch, one colour per fold, with the epoch kept marked.

    Args:
        path: SVG file to write.
        histories: fold -> a row per epoch with columns epoch, train_loss, validation_loss and
            validation_macro_f1.
        best: whether the epoch kept is the first one with the best macro-F1; otherwise it is the last one.
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
            kept = history.loc[history["validation_macro_f1"].idxmax() if best else history.index[-1]]
            look = {"color": colors[i], "marker": "o", "markersize": 7, "markeredgecolor": INK, "zorder": 3}
            loss.plot(kept["epoch"], kept["validation_loss"], **look)
            score.plot(kept["epoch"], kept["validation_macro_f1"], **look)
            key.append(Line2D([], [], color=colors[i], label=f"fold {fold}"))
        key += [
            Line2D([], [], color=INK, label="validation"),
            Line2D([], [], color=INK, linestyle=":", label="training"),
            Line2D([], [], color=QUIET, linestyle="", marker="o", markeredgecolor=INK, label="epoch kept"),
        ]
        loss.set(title="Loss", xlabel="epoch", ylabel="cross-entropy (nats)")
        loss.set_ylim(0, 1.05 * loss.dataLim.ymax)
        score.set(title="Validation macro-F1", xlabel="epoch", ylabel="macro-F1")
        for axes in (loss, score):
            axes.set_xlim(0.5, max(history["epoch"].max() for history in histories.values()) + 0.5)
            axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        figure.legend(handles=key, loc="outside right center")
