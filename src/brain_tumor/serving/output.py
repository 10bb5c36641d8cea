"""Answers as CSV rows and JSON values."""

import csv
import io
import re
from collections.abc import Sequence

from brain_tumor.imaging.preprocessing import Preprocessing
from brain_tumor.serving.answers import Answer


def csv_header(classes: Sequence[str], levels: Sequence[str]) -> list[str]:
    """Column names of `csv_row`, for the classes of a classifier and the levels of its prediction sets."""
    probabilities, sets = [f"p_{name}" for name in classes], [f"set_{level}" for level in levels]
    return [
        "file",
        "slice",
        "state",
        "label",
        "likely",
        "abstained",
        "reasons",
        "novelty",
        *probabilities,
        *sets,
        "error",
        "model",
    ]


def csv_row(answer: Answer, classes: Sequence[str], levels: Sequence[str], model: str) -> list[object]:
    """Cells of one answer; several classes or reasons are separated by "; ". With an error the others are empty.

    The last one is `model`, the SHA-256 of the classifier.
    """
    if (said := answer.prediction) is None:
        empty = len(csv_header(classes, levels)) - 3
        return [named(answer.name), *[""] * empty, answer.error, model]
    probabilities = [round(said.probabilities[name], 6) for name in classes]
    sets = ["; ".join(said.sets[int(level)]) for level in levels]
    place = "" if answer.scan.slice is None else answer.scan.slice
    reasons = "; ".join(said.reasons)
    abstained = str(said.abstained).lower()
    told = [named(answer.name), place, said.state, said.label, "; ".join(said.likely), abstained, reasons]
    return [*told, round(said.novelty, 6), *probabilities, *sets, "", model]


def csv_line(cells: Sequence[object]) -> str:
    """A row of a table as text: with LF at its end, and CR in quotes, which `csv` does not do with that end."""
    text = io.StringIO(newline="")
    csv.writer(text).writerow(cells)
    return text.getvalue().removesuffix("\r\n") + "\n"


def as_json(answer: Answer, preprocessing: Preprocessing, explain: bool = False) -> dict:
    """An answer as JSON values: name, slice, and the error or the fields of `Prediction`.

    Args:
        answer: what to convert.
        preprocessing: of the classifier.
        explain: add map (class -> rows of logits), picture and overlay (PNG as data URLs, both of the same size).
    """
    told = {"name": named(answer.name)}
    if (said := answer.prediction) is None:
        return told | {"error": answer.error}
    if answer.scan.slice is not None:
        told |= {"slice": answer.scan.slice, "slices": answer.scan.slices}
    if answer.scan.series:
        told |= {"series": answer.scan.series, "position": answer.scan.position}
    told |= {
        "state": said.state,
        "label": said.label,
        "likely": said.likely,
        "abstained": said.abstained,
        "reasons": said.reasons,
        "probabilities": {name: round(p, 6) for name, p in said.probabilities.items()},
        "prediction_sets": {str(level): names for level, names in said.sets.items()},
        "novelty": round(said.novelty, 6),
    }
    if explain:
        from brain_tumor.serving.pictures import data_url, picture_and_layer

        picture, layer = picture_and_layer(answer, preprocessing)
        told["map"] = {name: values.astype(float).round(4).tolist() for name, values in said.maps.items()}
        told |= {"picture": data_url(picture), "overlay": data_url(layer)}
    return told


def title(answer: Answer) -> str:
    """File name and slice number, with what is unprintable as Python escapes it: \\n, \\x1b, or \\xNN as in `named`."""
    place = "" if answer.scan is None or answer.scan.slice is None else f" [{answer.scan.slice}]"
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in named(answer.name) + place)


def named(name: str) -> str:
    """A file name as answers have it: bytes that are no UTF-8 as \\xNN, since no output in UTF-8 can hold them."""
    return re.sub("[\ud800-\udfff]", lambda found: f"\\x{ord(found[0]) & 0xFF:02x}", name)
