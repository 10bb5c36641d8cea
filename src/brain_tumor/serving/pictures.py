"""Pictures of answers: the slice with its activation map, for the page and for `brain-tumor predict --explain`."""

import base64
import unicodedata

import cv2
import numpy as np

from brain_tumor.exported.states import ANSWER, UNSURE
from brain_tumor.imaging.overlay import laid_over, map_layer
from brain_tumor.imaging.placement import seen_square
from brain_tumor.imaging.preprocessing import Preprocessing
from brain_tumor.serving.answers import Answer
from brain_tumor.serving.classifier import Prediction
from brain_tumor.words import words

_EDGE = 512  # largest edge of a picture for display, in pixels
_LINE = 22  # height of a line of text, in pixels
_LEAST_WIDE = 400  # pixels that the lines of text need
_FONT, _SIZE = cv2.FONT_HERSHEY_SIMPLEX, 0.45


def explained_picture(answer: Answer, preprocessing: Preprocessing) -> bytes:
    """PNG: the slice, beside it the slice with the map of its label over it, and below what the two say."""
    picture, layer = picture_and_layer(answer, preprocessing)
    plain = np.repeat(picture[..., None], 3, axis=2)
    both = np.hstack([plain, laid_over(picture, layer)])
    said = _said(answer.prediction)
    wide = max(both.shape[1], _LEAST_WIDE, 16 + max(cv2.getTextSize(line, _FONT, _SIZE, 1)[0][0] for line in said))
    image = np.zeros((both.shape[0] + (len(said) + 1) * _LINE + 8, wide, 3), np.uint8)
    image[: both.shape[0], : both.shape[1]] = both
    for line, text in enumerate(said, start=1):
        place = 8, both.shape[0] + line * _LINE
        cv2.putText(image, text, place, _FONT, _SIZE, (230, 230, 230), 1, cv2.LINE_AA)
    _draw_scale(image[-_LINE - 8 :], answer.prediction.map)
    return _png(image)


def _said(said: Prediction) -> list[str]:
    """Lines about an answer, in ASCII, which is what OpenCV can write."""
    probable = " or ".join(f"{words(name)} {said.probabilities[name]:.3f}" for name in said.likely or [said.label])
    verdict = {ANSWER: probable, UNSURE: f"unsure: {probable}"}.get(said.state, f"no answer; nearest: {probable}")
    lines = verdict, f"Map of {words(said.label)}. Research use only."
    return [unicodedata.normalize("NFKD", line).encode("ascii", "replace").decode() for line in lines]


def _draw_scale(strip: np.ndarray, values: np.ndarray) -> None:
    """Draw the colours of a map from 0 to its maximum, in logits, on (height, width, 3) uint8."""
    heat = np.tile(np.linspace(0, 1, 120, dtype=np.float32), (12, 1))
    strip[8:20, 30:150] = laid_over(np.zeros(heat.shape, np.uint8), map_layer(heat, heat.shape))
    for text, left in (("0", 12), (f"{max(float(values.max()), 0):.2f} logits a position", 158)):
        cv2.putText(strip, text, (left, 18), _FONT, _SIZE, (230, 230, 230), 1, cv2.LINE_AA)


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


def data_url(image: np.ndarray) -> str:
    """A PNG as data URL, of (h, w) grey, (h, w, 3) RGB or (h, w, 4) RGBA uint8."""
    return f"data:image/png;base64,{base64.b64encode(_png(image)).decode()}"


def _png(image: np.ndarray) -> bytes:
    if image.ndim == 3:
        image = cv2.cvtColor(image, cv2.COLOR_RGB2BGR if image.shape[2] == 3 else cv2.COLOR_RGBA2BGRA)
    return cv2.imencode(".png", image)[1].tobytes()
