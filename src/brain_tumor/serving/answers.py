"""Answers about many files: a file that cannot be read is told and the others go on."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice

from brain_tumor.imaging.decoding import UnreadableImage
from brain_tumor.serving.classifier import Classifier, Prediction
from brain_tumor.serving.readers.formats import Scan, read_scans

_AT_ONCE = 8  # files read, and slices computed, as one batch: more gain nothing


@dataclass(frozen=True)
class Answer:
    """Attributes:
    name: of the file.
    scan: one slice of it; None where it could not be read.
    prediction: what the classifier says of the slice; None where there is none.
    error: why the file could not be read; empty otherwise.
    """

    name: str
    scan: Scan | None = None
    prediction: Prediction | None = None
    error: str = ""


@dataclass(frozen=True)
class File:
    """Attributes:
    name: as it is told in the answer.
    read: gives the content; may raise OSError.
    """

    name: str
    read: Callable[[], bytes]


def answer(classifier: Classifier, files: Sequence[File], **options) -> list[Answer]:
    """Read some files and predict all their slices.

    Args:
        classifier: predicts.
        files: what to read.
        options: of `read_scans`: wanted, max_pixels.

    Returns:
        An answer per slice, or one with the error per file that cannot be read, in the order of the files.
    """
    read: list[Scan | Answer] = []
    for file in files:
        try:
            read += read_scans(file.name, file.read(), **options)
        except (UnreadableImage, OSError) as error:
            cause = error.strerror or str(error) if isinstance(error, OSError) else str(error)
            read.append(Answer(file.name, error=cause))
    scans = [found for found in read if isinstance(found, Scan)]
    predictions = iter(
        [
            prediction
            for start in range(0, len(scans), _AT_ONCE)
            for prediction in classifier.predict_many([scan.pixels for scan in scans[start : start + _AT_ONCE]])
        ]
    )
    return [found if isinstance(found, Answer) else Answer(found.name, found, next(predictions)) for found in read]


def stream(classifier: Classifier, files: Iterable[File], **options) -> Iterator[Answer]:
    """The same for any number of files, on all cores; only some dozen files are in memory at a time."""
    pending, remaining, workers = deque(), iter(files), cores()
    with ThreadPoolExecutor(workers) as pool:
        while batch := list(islice(remaining, _AT_ONCE)):
            pending.append(pool.submit(answer, classifier, batch, **options))
            if len(pending) > 2 * workers:
                yield from pending.popleft().result()
        while pending:
            yield from pending.popleft().result()


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
