"""Predictions for many files: one that cannot be read gives an error and does not stop the others."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial

from brain_tumor.imaging.decoding import UnreadableImage
from brain_tumor.serving.classifier import Classifier, Prediction
from brain_tumor.serving.readers.formats import Scan, read_scans
from brain_tumor.workers import in_order

_AT_ONCE = 8  # files per job, and slices per forward pass; more are not faster


@dataclass(frozen=True)
class Answer:
    """Attributes:
    name: of the file.
    scan: one slice of it; None if the file could not be read.
    prediction: for that slice; None if the file could not be read.
    error: why the file could not be read; empty otherwise.
    """

    name: str
    scan: Scan | None = None
    prediction: Prediction | None = None
    error: str = ""


@dataclass(frozen=True)
class File:
    """Attributes:
    name: as it appears in the answer.
    read: returns the content; may raise OSError.
    """

    name: str
    read: Callable[[], bytes]


class GivenUp(Exception):
    """Nobody waits for the answer any more."""


def answer(
    classifier: Classifier, files: Iterable[File], given_up: Callable[[], bool] = lambda: False, **options
) -> list[Answer]:
    """Read files and predict their wanted slices.

    Args:
        classifier: predicts the slices.
        files: what to read.
        given_up: is called before each file and each forward pass; once it returns True, the rest is left.
        options: of `read_scans`: wanted, max_pixels.

    Returns:
        In the order of the files: an answer per slice, or one with the error if the file cannot be read.

    Raises:
        GivenUp: see `given_up`.
    """
    read: list[Scan | Answer] = []
    for file in files:
        if given_up():
            raise GivenUp
        try:
            read += read_scans(file.name, file.read(), **options)
        except (UnreadableImage, OSError) as error:
            cause = error.strerror or str(error) if isinstance(error, OSError) else str(error)
            read.append(Answer(file.name, error=cause))
    scans = [found for found in read if isinstance(found, Scan)]
    predictions: list[Prediction] = []
    for start in range(0, len(scans), _AT_ONCE):
        if given_up():
            raise GivenUp
        predictions += classifier.predict_many([scan.pixels for scan in scans[start : start + _AT_ONCE]])
    rest = iter(predictions)
    return [found if isinstance(found, Answer) else Answer(found.name, found, next(rest)) for found in read]


def stream(classifier: Classifier, files: Iterable[File], **options) -> Iterator[Answer]:
    """The same for any number of files, on all cores or on a cluster; at most some 16 files per core are in memory."""
    yield from in_order(partial(answer, classifier, **options), files, load=_loaded, chunk=_AT_ONCE)


def _loaded(file: File) -> File:
    """The same file whose content, or the error of reading it, is there."""
    try:
        return File(file.name, partial(bytes, file.read()))
    except OSError as error:
        return File(file.name, partial(_raised, error))


def _raised(error: OSError) -> bytes:
    raise error
