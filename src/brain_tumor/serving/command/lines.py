"""What the command prints for people: a line for each answer, in columns, and a summary."""

import os
from collections import Counter
from typing import TextIO

from brain_tumor.exported.classifier_file import Metadata
from brain_tumor.exported.states import ANSWER, UNSURE
from brain_tumor.serving.answers import Answer
from brain_tumor.serving.output import title
from brain_tumor.words import words

_BOLD, _YELLOW, _RED = 1, 33, 31  # SGR codes of ECMA-48
_WIDEST = 60  # characters of the column of names; longer ones move their line
_SINGLE = (".jpg", ".jpeg", ".png", ".bmp", ".pgm", ".ppm")  # suffixes of files that hardly ever have several slices
_PLACE = len(" [999]")  # of the number of a slice


class Lines:
    """Lines of text whose columns stand below each other.

    Args:
        classes: of the classifier.
        names: of the files, as they will be printed.
        coloured: whether verdicts are coloured, see `takes_colour`.
    """

    def __init__(self, classes: list[str], names: list[str], coloured: bool) -> None:
        widths = [len(name) + (0 if name.lower().endswith(_SINGLE) else _PLACE) for name in names]
        self._name = min(max(widths), _WIDEST)
        self._verdict = max(map(len, (*map(words, classes), "no answer")))
        self._coloured = coloured

    def line(self, answer: Answer) -> str:
        """Name, verdict and what supports it: probabilities, reasons, largest prediction set and novelty."""
        verdict, colour, support = _told(answer)
        shown = f"{verdict:<{self._verdict}}"
        if self._coloured:
            shown = f"\x1b[{colour}m{shown}\x1b[0m"
        return f"{title(answer):<{self._name}}  {shown}  {support}"


def _told(answer: Answer) -> tuple[str, int, str]:
    """Verdict, its colour, and what supports it."""
    if (said := answer.prediction) is None:
        return "error", _RED, answer.error
    level = max(said.sets)
    among = f"{level} % set: {', '.join(map(words, said.sets[level])) or 'none'}; novelty {said.novelty:.2f}"
    if said.state == ANSWER:
        return words(said.label), _BOLD, f"{said.probabilities[said.label]:.3f}  ({among})"
    probable = [f"{words(name)} {said.probabilities[name]:.3f}" for name in said.likely or [said.label]]
    reasons = "; ".join(said.reasons)
    if said.state == UNSURE:
        return "unsure", _YELLOW, f"{' or '.join(probable)}: {reasons}  ({among})"
    return "no answer", _YELLOW, f"{reasons}; nearest: {probable[0]}  ({among})"


def takes_colour(stream: TextIO) -> bool:
    """Whether a stream is a terminal that shows colours, and the user has not forbidden them (https://no-color.org)."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def summary(counts: Counter[str | None], about: Metadata) -> str:
    """How many slices have each answer.

    Args:
        counts: class that was answered, other state, or None for a file that could not be read -> number.
        about: the classifier's metadata.
    """
    failed = counts[None]
    answered = ", ".join(f"{counts[name]} {words(name)}" for name in about.classes)
    unanswered = f"{counts[UNSURE]} unsure, {counts['no answer']} no answer"
    unread = f"; {failed} file{'s' if failed > 1 else ''} could not be read" if failed else ""
    slices = counts.total() - failed
    return f"{slices} slice{'' if slices == 1 else 's'}: {answered}; {unanswered}{unread}."


def worth(about: Metadata) -> list[str]:
    """What the answers of a classifier are worth, a line for each set of images that it was measured on."""
    lines = []
    for row in about.measured:
        share = {name: f"{100 * value:.1f} %" for name, value in row.items() if name not in ("images", "n")}
        parts = [f"{share['answered']} answered"]
        parts += [f"{share['error']} of the answers wrong"] if "error" in share else []
        parts += [f"{share['missed']} of the tumours answered as healthy"] if "missed" in share else []
        parts += [f"{level} % set right in {share[key]}" for level in (90, 95) if (key := f"coverage_{level}") in share]
        lines.append(f"Measured on {row['images']} ({row['n']} images): {', '.join(parts)}.")
    return lines
