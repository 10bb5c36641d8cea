"""The file of the exported classifier, which contains the network and everything that its use needs.

It is a LiteRT model with a zip archive appended, as TensorFlow Lite's own metadata does it: LiteRT reads the network
from the front, any zip program the archive from the end. The archive contains `metadata.json` and `novelty.npz`. The
same content gives the same bytes.
"""

import hashlib
import io
import json
import zipfile
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from brain_tumor.errors import PipelineError
from brain_tumor.exported.novelty import Novelty
from brain_tumor.files import replacing_file
from brain_tumor.imaging.preprocessing import Preprocessing

FORMAT_VERSION = 1
_METADATA, _NOVELTY = "metadata.json", "novelty.npz"


@dataclass(frozen=True)
class Metadata:
    """Facts about an exported classifier, all JSON values.

    Attributes:
        classes: names, in the order of the probabilities.
        preprocessing: fields of `imaging.preprocessing.Preprocessing`.
        calibration: scale and biases that are built into the network's last layer.
        confidence: smallest probability at which it answers; None: it always abstains.
        sets: nominal coverage in percent, as text -> smallest probability at which each class is in the prediction set.
        backbone: name of the network.
        fold: its test fold, which it did not learn from.
        data_fingerprint: SHA-256 of paths and contents of the data set.
    """

    classes: list[str]
    preprocessing: dict
    calibration: dict
    confidence: float | None
    sets: dict[str, list[float]]
    backbone: str
    fold: int
    data_fingerprint: str


@dataclass(frozen=True)
class Exported:
    """Attributes:
    network: a LiteRT model from `pixels` (n, size, size, 1) uint8 to `probabilities` (n, classes), `maps` (n, height,
        width, classes) and `features` (n, channels), all float32.
    novelty: the fitted novelty score.
    metadata: everything else.
    """

    network: bytes
    novelty: Novelty
    metadata: Metadata

    @property
    def preprocessing(self) -> Preprocessing:
        return Preprocessing(**self.metadata.preprocessing)


def write_exported(path: Path | str, exported: Exported) -> None:
    """Write a classifier atomically, with its format version and the SHA-256 of its network."""
    head = {"format_version": FORMAT_VERSION, "network_sha256": hashlib.sha256(exported.network).hexdigest()}
    text = json.dumps(head | asdict(exported.metadata), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    arrays = io.BytesIO()
    np.savez(arrays, **asdict(exported.novelty))
    with replacing_file(path) as partial:
        partial.write_bytes(exported.network)
        with zipfile.ZipFile(partial, "a", zipfile.ZIP_STORED) as archive:
            # Without a date, ZipInfo has the first one that the format can hold, in 1980.
            archive.writestr(zipfile.ZipInfo(_METADATA), text)
            archive.writestr(zipfile.ZipInfo(_NOVELTY), arrays.getvalue())


def read_exported(path: Path | str) -> Exported:
    """Read a classifier.

    Raises:
        PipelineError: there is no such file, this project did not write it, its format version is another one, or it
            is damaged.
    """
    path = Path(path)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise PipelineError(f"expected an exported classifier in {path}: {error.strerror}: export one") from error
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            values = json.loads(archive.read(_METADATA))
            version, sha256 = values.pop("format_version"), values.pop("network_sha256")
            if version != FORMAT_VERSION:
                raise PipelineError(
                    f"{path} is a classifier of format {version}, this version reads format {FORMAT_VERSION}: "
                    "export it again, or install the version that wrote it"
                )
            metadata = Metadata(**values)
            with np.load(io.BytesIO(archive.read(_NOVELTY))) as arrays:
                novelty = Novelty(**{name: arrays[name] for name in arrays.files})
            network = content[: min(info.header_offset for info in archive.infolist())]
    except (zipfile.BadZipFile, KeyError, TypeError, ValueError) as error:
        raise PipelineError(
            f"expected an exported classifier in {path}, the file is another one or damaged: export it again"
        ) from error
    if hashlib.sha256(network).hexdigest() != sha256:
        raise PipelineError(f"the network in {path} is not the one its metadata names: export it again")
    return Exported(network, novelty, metadata)
