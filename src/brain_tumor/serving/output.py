"""Answers as text, CSV rows, JSON values and pictures."""

import base64
import re
from collections.abc import Sequence

import cv2
import numpy as np

from brain_tumor.exported.classifier_file import Metadata
from brain_tumor.exported.states import ANSWER, UNSURE
from brain_tumor.imaging.overlay import laid_over, map_layer
from brain_tumor.imaging.placement import seen_square
from brain_tumor.imaging.preprocessing import Preprocessing
from brain_tumor.serving.answers import Answer

_EDGE = 512  # largest edge of a picture for display, in pixels


def worth(metadata: Metadata) -> list[str]:
    """What the answers of a classifier are worth, a line for each set of images that it was measured on."""
    lines = []
    for row in metadata.measured:
        parts = [f"{row['answered']:.0%} answered"]
        parts += [f"{row['error']:.1%} of the answers wrong"] if "error" in row else []
        parts += [f"{row['missed']:.1%} of the tumours answered as healthy"] if "missed" in row else []
        parts += [f"{level} % set right in {row[key]:.1%}" for level in (90, 95) if (key := f"coverage_{level}") in row]
        lines.append(f"{row['images']} ({row['n']} images): {', '.join(parts)}")
    return lines


def as_line(answer: Answer) -> str:
    """One line of text for the terminal."""
    name = title(answer)
    if (said := answer.prediction) is None:
        return f"{name}: error: {answer.error}"
    level = max(said.sets)
    among = f"{level} % prediction set: {', '.join(said.sets[level]) or 'none'}; novelty {said.novelty:.2f}"
    probable = [f"{called} {said.probabilities[called]:.3f}" for called in said.likely or [said.label]]
    if said.state == ANSWER:
        return f"{name}: {probable[0]} ({among})"
    if said.state == UNSURE:
        return f"{name}: unsure, {' or '.join(probable)}: {'; '.join(said.reasons)} ({among})"
    return f"{name}: no answer, {'; '.join(said.reasons)}; nearest: {probable[0]} ({among})"


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
    ]


def csv_row(answer: Answer, classes: Sequence[str], levels: Sequence[str]) -> list[object]:
    """Cells of one answer; several classes or reasons are separated by "; ". With an error the others are empty."""
    if (said := answer.prediction) is None:
        empty = len(csv_header(classes, levels)) - 2
        return [named(answer), *[""] * empty, answer.error]
    probabilities = [round(said.probabilities[name], 6) for name in classes]
    sets = ["; ".join(said.sets[int(level)]) for level in levels]
    place = "" if answer.scan.slice is None else answer.scan.slice
    reasons = "; ".join(said.reasons)
    abstained = str(said.abstained).lower()
    told = [named(answer), place, said.state, said.label, "; ".join(said.likely), abstained, reasons]
    return [*told, round(said.novelty, 4), *probabilities, *sets, ""]


def as_json(answer: Answer, preprocessing: Preprocessing, explain: bool = False) -> dict:
    """An answer as JSON values: name, slice, and the error or the fields of `Prediction`.

    Args:
        answer: what to convert.
        preprocessing: of the classifier.
        explain: add map (class -> rows of logits), picture and overlay (PNG as data URLs, both of the same size).
    """
    told = {"name": named(answer)}
    if (said := answer.prediction) is None:
        return told | {"error": answer.error}
    if answer.scan.slice is not None:
        told["slice"] = answer.scan.slice
    told |= {
        "state": said.state,
        "label": said.label,
        "likely": said.likely,
        "abstained": said.abstained,
        "reasons": said.reasons,
        "probabilities": {name: round(p, 6) for name, p in said.probabilities.items()},
        "prediction_sets": {str(level): names for level, names in said.sets.items()},
        "novelty": round(said.novelty, 4),
    }
    if explain:
        picture, layer = picture_and_layer(answer, preprocessing)
        told["map"] = {name: values.astype(float).round(4).tolist() for name, values in said.maps.items()}
        told |= {"picture": _data_url(picture), "overlay": _data_url(cv2.cvtColor(layer, cv2.COLOR_RGBA2BGRA))}
    return told


def explained_picture(answer: Answer, preprocessing: Preprocessing) -> bytes:
    """PNG: the slice, and beside it the slice with the activation map of its label over it."""
    picture, layer = picture_and_layer(answer, preprocessing)
    plain = np.repeat(picture[..., None], 3, axis=2)
    return _png(cv2.cvtColor(np.hstack([plain, laid_over(picture, layer)]), cv2.COLOR_RGB2BGR))


def picture_and_layer(answer: Answer, preprocessing: Preprocessing) -> tuple[np.ndarray, np.ndarray]:
    """The whole slice, shrunk for display, as (h, w) uint8 grey, and its activation map as (h, w, 4) uint8 RGBA."""
    grey = answer.scan.pixels
    scale = min(1.0, _EDGE / max(grey.shape))
    shown = [max(1, round(edge * scale)) for edge in grey.shape]
    picture = cv2.resize(grey, shown[::-1], interpolation=cv2.INTER_AREA) if scale < 1 else grey
    left, top, edge = seen_square(grey, preprocessing)
    x, y, edge = round(left * scale), round(top * scale), max(1, round(edge * scale))
    square = map_layer(answer.prediction.map, (edge, edge))
    layer = np.zeros((*shown, 4), np.uint8)
    height, width = min(shown[0], y + edge) - max(y, 0), min(shown[1], x + edge) - max(x, 0)
    seen = square[max(-y, 0) :, max(-x, 0) :][:height, :width]
    layer[max(y, 0) :, max(x, 0) :][: seen.shape[0], : seen.shape[1]] = seen
    return picture, layer


def title(answer: Answer) -> str:
    """File name and slice number, with what is unprintable as Python escapes it: \\n, \\x1b, or \\xNN as in `named`."""
    place = "" if answer.scan is None or answer.scan.slice is None else f" [{answer.scan.slice}]"
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in named(answer) + place)


def named(answer: Answer) -> str:
    """File name; bytes in it that are no UTF-8 as \\xNN, since no output in UTF-8 can hold them."""
    return re.sub("[\ud800-\udfff]", lambda found: f"\\x{ord(found[0]) & 0xFF:02x}", answer.name)


def _png(image: np.ndarray) -> bytes:
    return cv2.imencode(".png", image)[1].tobytes()


def _data_url(image: np.ndarray) -> str:
    return f"data:image/png;base64,{base64.b64encode(_png(image)).decode()}"
