"""From scans to predictions with the exported classifier.

Example:
    >>> classifier = Classifier.load()
    >>> prediction = classifier.predict(np.zeros((256, 256), np.uint8))
    >>> prediction.abstained, "novelty" in prediction.reasons[0]
    (True, True)
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from brain_tumor.errors import PipelineError
from brain_tumor.exported.classifier_file import Exported, read_exported
from brain_tumor.exported.network import Network
from brain_tumor.exported.prediction_sets import prediction_sets
from brain_tumor.exported.states import ANSWER, REFUSED, UNSURE, states
from brain_tumor.imaging.decoding import UnreadableImage
from brain_tumor.imaging.preprocessing import prepare_grey
from brain_tumor.serving.readers.formats import Scan, read_scans

DEFAULT = Path(__file__).with_name("classifier.tflite")
"""The classifier that comes with the package, exported from the committed run."""


@dataclass(frozen=True)
class Prediction:
    """The prediction for one slice.

    Attributes:
        state: "answer"; "unsure": one of the two classes in `likely`, which is not an answer; or "no answer".
        label: the most probable class, also if the classifier abstains.
        likely: the classes to name: that of an answer, the two most probable ones where it is unsure, otherwise none.
        probabilities: class -> calibrated probability.
        sets: nominal coverage in percent -> classes of the prediction set, which may be empty.
        abstained: whether the label should not be relied on, which is so unless the state is "answer".
        reasons: why the classifier abstains, in words; empty if it does not.
        novelty: novelty score; above 1 the picture is probably not a scan like those of training.
        maps: class -> (height, width) float32, what each position of the prepared image adds to the class's logit.
        pixels: (size, size) uint8, the prepared image, which is what the network sees.
    """

    state: str
    label: str
    likely: list[str]
    probabilities: dict[str, float]
    sets: dict[int, list[str]]
    abstained: bool
    reasons: list[str]
    novelty: float
    maps: dict[str, np.ndarray]
    pixels: np.ndarray

    @property
    def map(self) -> np.ndarray:
        """The map of the label."""
        return self.maps[self.label]


class Classifier:
    """An exported classifier, ready to predict. Several threads may use it at once.

    Args:
        exported: what `exported.classifier_file.read_exported` returns.

    Attributes:
        metadata: facts about it.
        preprocessing: how scans are prepared for it.
        format_version, sha256: of its file.

    Raises:
        PipelineError: the network cannot be run, or is not the one that the metadata describe.
    """

    def __init__(self, exported: Exported) -> None:
        try:
            self._network = Network(exported.network)
            sizes = self._network.sizes()
        except (ValueError, RuntimeError, KeyError) as error:
            raise PipelineError("expected a network that LiteRT runs in the exported file: export it again") from error
        expected = exported.preprocessing.size, len(exported.metadata.classes), exported.novelty.mean.size
        if sizes != expected:
            raise PipelineError(
                f"expected a network of {expected[0]} px, {expected[1]} classes and {expected[2]} features in the "
                f"exported file, got {sizes[0]}, {sizes[1]} and {sizes[2]}: export it again"
            )
        self._exported, self._novelty = exported, exported.novelty
        self._least = [np.inf if value is None else value for value in exported.metadata.confidence]
        self.metadata = exported.metadata
        self.preprocessing = exported.preprocessing
        self.format_version, self.sha256 = exported.format_version, exported.sha256

    @classmethod
    def load(cls, path: Path | str = DEFAULT) -> "Classifier":
        """Load a classifier from a file that the stage `export` wrote.

        Raises:
            PipelineError: see above and `exported.classifier_file.read_exported`.
        """
        return cls(read_exported(path))

    def __reduce__(self) -> tuple:
        return Classifier, (self._exported,)  # a process that it is sent to runs the network itself

    def predict(self, scan: Path | str | bytes | np.ndarray) -> Prediction:
        """Predict what one picture shows.

        Args:
            scan: path or content of a file with one slice, or (height, width) uint8 grey. Of several frames, pages or
                axial slices, the one in the middle of those that `predict_file` answers for by default.

        Raises:
            UnreadableImage: it is no image, truncated, or of a senseless size.
            OSError: the file cannot be read.
        """
        if isinstance(scan, np.ndarray):
            if scan.ndim != 2 or scan.dtype != np.uint8 or min(scan.shape) < 2:
                raise UnreadableImage(
                    f"expected (height, width) uint8 of 2 or more a side, got {scan.shape} {scan.dtype}"
                )
            return self.predict_many([scan])[0]
        slices = _read(scan, "middle")
        return self.predict_many([slices[len(slices) // 2].pixels])[0]

    def predict_file(self, scan: Path | str | bytes, wanted: str | int = "middle") -> list[tuple[Scan, Prediction]]:
        """Predict the wanted slices of a file, which are the same as those of the command and the server.

        Args:
            scan: path or content of an image, DICOM or NIfTI file.
            wanted: "middle", "all" or the number of a slice, see `readers.formats.read_scans`. Of a NIfTI volume
                "middle" is three slices, of other files one.

        Returns:
            For each slice in order: its number and pixels, and the prediction.

        Raises:
            UnreadableImage: see `predict`; or there is no such slice.
            OSError: the file cannot be read.
        """
        slices = _read(scan, wanted)
        return [(each, self.predict_many([each.pixels])[0]) for each in slices]

    def predict_many(self, scans: Sequence[np.ndarray]) -> list[Prediction]:
        """Predict several scans in one forward pass: each (height, width) uint8 grey."""
        return self.predict_prepared(np.stack([prepare_grey(grey, self.preprocessing) for grey in scans]))

    def predict_prepared(self, images: np.ndarray) -> list[Prediction]:
        """Predict (n, size, size) uint8 prepared images."""
        found = self._network(images)
        levels = {int(level): np.array(least) for level, least in self.metadata.sets.items()}
        members = {level: prediction_sets(found["probabilities"], least) for level, least in levels.items()}
        sets = ({level: member[i] for level, member in members.items()} for i in range(len(images)))
        novelty = self._novelty.score(found["features"]).tolist()
        found_states = states(found["probabilities"], self._least).tolist()
        parts = images, found["probabilities"], found_states, novelty, found["maps"], sets
        return [self._prediction(*part) for part in zip(*parts, strict=True)]

    def _prediction(self, pixels, probabilities, state, novelty, maps, members) -> Prediction:
        classes = self.metadata.classes
        order = np.argsort(-probabilities, kind="stable").tolist()
        called = order[0]
        state = REFUSED if novelty > 1 else state
        reasons = self._reasons(called, float(probabilities[called]), state, novelty)
        return Prediction(
            state=state,
            label=classes[called],
            likely=[classes[i] for i in order[: {ANSWER: 1, UNSURE: 2}.get(state, 0)]],
            probabilities={name: float(p) for name, p in zip(classes, probabilities, strict=True)},
            sets={
                level: [name for name, inside in zip(classes, member, strict=True) if inside]
                for level, member in members.items()
            },
            abstained=state != ANSWER,
            reasons=reasons,
            novelty=novelty,
            maps={name: maps[:, :, i] for i, name in enumerate(classes)},
            pixels=pixels,
        )

    def _reasons(self, called: int, confidence: float, state: str, novelty: float) -> list[str]:
        if state == ANSWER:
            return []
        reasons, least = [], self.metadata.confidence[called]
        if novelty > 1:
            reasons.append(
                f"it looks like no scan the network has learned from (novelty {novelty:.2f}, at most 1 is usual)"
            )
        if least is None:
            reasons.append("no confidence kept the errors on held-out images within the target")
        elif confidence < least:
            name = self.metadata.classes[called].replace("_", " ")
            reasons.append(f"not sure enough for {name} (probability {confidence:.3f}, {least:.3f} is needed)")
        return reasons


def _read(scan: Path | str | bytes, wanted: str | int) -> list[Scan]:
    name, content = ("scan", scan) if isinstance(scan, bytes) else (str(scan), Path(scan).read_bytes())
    return read_scans(name, content, wanted)
