"""The file of the exported classifier, which contains the network and everything that its use needs.

It is a LiteRT model with a zip archive appended, as TensorFlow Lite's own metadata does it: LiteRT reads the network
from the front, any zip program the archive from the end. The archive contains `metadata.json` and `novelty.npz`, and
its comment, the last bytes of the file, is the SHA-256 of all bytes before it: damage anywhere is found. It proves no
authorship: whoever changes a file can write the SHA-256 of the changed one. The same content gives the same bytes.

Format 1 has a SHA-256 of its network only; of the rest, what is read is covered by the CRC-32 of the archive.
"""

import hashlib
import io
import json
import zipfile
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from brain_tumor.errors import PipelineError
from brain_tumor.exported.contents import check_contents
from brain_tumor.exported.novelty import Novelty
from brain_tumor.files import replacing_file
from brain_tumor.imaging.preprocessing import Preprocessing

FORMAT_VERSION = 2
_METADATA, _NOVELTY = "metadata.json", "novelty.npz"
_DIGITS = 64  # of a SHA-256


@dataclass(frozen=True)
class Metadata:
    """Facts about an exported classifier, all JSON values.

    Attributes:
        classes: names, in the order of the probabilities.
        healthy_class: the one without a tumour; "": there is none.
        preprocessing: fields of `imaging.preprocessing.Preprocessing`.
        calibration: scale and biases that are built into the network's last layer.
        confidence: smallest probability at which each class is answered; None: it never is.
        sets: nominal coverage in percent, as text -> smallest probability at which each class is in the prediction set.
        backbone: name of the network.
        fold: its test fold, which it did not learn from; None: it has learned from all patients.
        measured: what the answers are worth, for each set of images that it was measured on: images (which), and those
            of n, answered, error, missed, coverage_90 and coverage_95 that are known, all shares but n.
        data_fingerprint: SHA-256 of paths and contents of the data set.
        expects: the pictures that the network is meant for, in words; "": not stated.
    """

    classes: list[str]
    healthy_class: str
    preprocessing: dict
    calibration: dict
    confidence: list[float | None]
    sets: dict[str, list[float]]
    backbone: str
    fold: int | None
    measured: list[dict]
    data_fingerprint: str
    expects: str = ""


@dataclass(frozen=True)
class Exported:
    """Attributes:
    network: a LiteRT model from `pixels` (n, size, size, 1) uint8 to `probabilities` (n, classes), `maps` (n, height,
        width, classes) and `features` (n, channels), all float32.
    novelty: the fitted novelty score.
    metadata: everything else.
    format_version: of the file that it was read from.
    sha256: of that file, as `sha256sum` prints it.
    """

    network: bytes
    novelty: Novelty
    metadata: Metadata
    format_version: int = FORMAT_VERSION
    sha256: str = ""

    @property
    def preprocessing(self) -> Preprocessing:
        """How scans are prepared for the network."""
        return Preprocessing(**self.metadata.preprocessing)


def write_exported(path: Path | str, exported: Exported) -> None:
    """Write a classifier atomically, with its format version and its SHA-256."""
    head = {"format_version": FORMAT_VERSION}
    text = json.dumps(head | asdict(exported.metadata), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    arrays = io.BytesIO()
    np.savez(arrays, **asdict(exported.novelty))
    content = io.BytesIO(exported.network)
    with zipfile.ZipFile(content, "a", zipfile.ZIP_STORED) as archive:
        # Without a date, ZipInfo has the first one that the format can hold, in 1980.
        archive.writestr(zipfile.ZipInfo(_METADATA), text)
        archive.writestr(zipfile.ZipInfo(_NOVELTY), arrays.getvalue())
        archive.comment = b"0" * _DIGITS
    body = content.getvalue()[:-_DIGITS]
    with replacing_file(path) as partial:
        partial.write_bytes(body + hashlib.sha256(body).hexdigest().encode())


def read_exported(path: Path | str) -> Exported:
    """Read a classifier of this format or of format 1.

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
            if any(info.compress_type != zipfile.ZIP_STORED for info in archive.infolist()):
                raise ValueError("a compressed entry, which may unpack to any size")
            values = json.loads(archive.read(_METADATA))
            version = values.pop("format_version")
            if version not in (1, FORMAT_VERSION):
                raise PipelineError(
                    f"{path} is a classifier of format {version}, this version reads formats 1 and {FORMAT_VERSION}: "
                    "export it again, or install the version that wrote it"
                )
            with np.load(io.BytesIO(archive.read(_NOVELTY))) as arrays:
                arrays = {name: arrays[name] for name in arrays.files}
            network = content[: min(info.header_offset for info in archive.infolist())]
        body = hashlib.sha256(content[:-_DIGITS])
        if version == 1:
            values, arrays, whole = _of_format_1(values, arrays, network)
        else:
            whole = body.hexdigest().encode() == content[-_DIGITS:]
        body.update(content[-_DIGITS:])
        exported = Exported(network, Novelty(**arrays), Metadata(**values), version, body.hexdigest())
        check_contents(asdict(exported.metadata), exported.novelty)
    except PipelineError:
        raise
    except Exception as error:  # zipfile, its decompressors and NumPy have a dozen kinds for damaged bytes
        raise PipelineError(
            f"expected an exported classifier in {path}, the file is another one or damaged: export it again"
        ) from error
    if not whole:
        raise PipelineError(f"{path} is damaged, its content is not what its SHA-256 says: export it again")
    return exported


def _of_format_1(values: dict, arrays: dict, network: bytes) -> tuple[dict, dict, bool]:
    """Metadata and novelty score of a file of format 1, and whether its network is undamaged."""
    whole = hashlib.sha256(network).hexdigest() == values.pop("network_sha256")
    values["confidence"] = [values["confidence"]] * len(values["classes"])
    arrays["whitening"] = np.linalg.cholesky(arrays.pop("precision"))
    return values | {"healthy_class": "", "measured": []}, arrays, whole
