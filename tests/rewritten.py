"""Exported classifiers with other thresholds, so that a scan gets the state that a test is about."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from brain_tumor.exported.classifier_file import read_exported, write_exported
from brain_tumor.serving.classifier import Classifier, Prediction


def rewritten(source: Path, target: Path, *, novelty: float | None = None, **metadata: object) -> Path:
    """The classifier of a file with other metadata, and another threshold of the novelty score, in another file."""
    exported = read_exported(source)
    changed = exported.novelty if novelty is None else replace(exported.novelty, threshold=novelty)
    write_exported(target, replace(exported, novelty=changed, metadata=replace(exported.metadata, **metadata)))
    return target


def two(said: Prediction) -> tuple[float, float]:
    """The two largest probabilities."""
    least, most = sorted(said.probabilities.values())[-2:]
    return most, least


def giving(state: str, scan: Path, source: Path, target: Path, **metadata: object) -> Path:
    """A classifier whose thresholds of the probability give this scan "answer", "unsure" or "no answer"."""
    most, second = two(Classifier.load(source).predict(scan))
    assert 0 < second < most and most + second < 1
    least = {"answer": most / 2, "unsure": most + second / 2, "no answer": (most + second + 1) / 2}[state]
    exported = read_exported(source)
    confidence = [least] * len(exported.metadata.classes)
    return rewritten(source, target, novelty=np.inf, confidence=confidence, **metadata)


def giving_all_states(scans: Sequence[Path], source: Path, target: Path, **metadata: object) -> Path:
    """A classifier that answers the surer half of these scans, is unsure of the others, and refuses the farthest ones.

    Which scan is which, its own `novelty` and probabilities say: above 1; or the largest probability below the
    thresholds, which are all the same.
    """
    said = [Classifier.load(source).predict(scan) for scan in scans]
    least = float(np.median([two(one)[0] for one in said]))
    assert min(sum(two(one)) for one in said) >= least
    # Between two scans, so that no score lies at the threshold itself.
    far = np.sort([one.novelty for one in said])[-len(said) // 4 - 1 :][:2].mean()
    exported = read_exported(source)
    confidence = [least] * len(exported.metadata.classes)
    return rewritten(source, target, novelty=exported.novelty.threshold * far, confidence=confidence, **metadata)
