"""The formats that scans come in, and the grey slices of a file in any of them."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from brain_tumor.imaging.decoding import IMAGE_SUFFIXES, UnreadableImage
from brain_tumor.serving.readers.common import Slices
from brain_tumor.serving.readers.dicom import is_dicom, read_dicom
from brain_tumor.serving.readers.nifti import is_nifti, read_nifti
from brain_tumor.serving.readers.picture import read_picture


@dataclass(frozen=True)
class Format:
    """A file format.

    Attributes:
        suffixes: lower-case suffixes of its files, by which a search through a folder finds them.
        recognises: content of a file -> whether it carries the signature of the format.
        read: (content, wanted, max_pixels) -> the wanted slices; see `read_scans` for the arguments.
        by_suffix: whether a file that no format recognises and that is no picture is read if it has the suffix.
    """

    suffixes: tuple[str, ...]
    recognises: Callable[[bytes], bool]
    read: Callable[[bytes, str | int, int], Slices]
    by_suffix: bool = False


FORMATS = (
    Format((".dcm", ".dicom"), is_dicom, read_dicom, by_suffix=True),
    Format((".nii", ".nii.gz"), is_nifti, read_nifti),
)
"""Every format but pictures, which are what is left; the first one that recognises a file reads it."""
SUFFIXES = (*sorted(IMAGE_SUFFIXES), *(suffix for kind in FORMATS for suffix in kind.suffixes))
"""Of the files that a search through a folder finds, in lower case."""


@dataclass(frozen=True)
class Scan:
    """One grey slice.

    Attributes:
        name: of the file.
        slice: number of the frame or page, or of the axial slice counted from the feet; None if it is the only one.
        pixels: (height, width) uint8 grey.
        slices: how many the file has.
        series, position: of a DICOM file, see `common.Slices`.
    """

    name: str
    slice: int | None
    pixels: np.ndarray
    slices: int = 1
    series: str = ""
    position: float | None = None


def read_scans(name: str, data: bytes, wanted: str | int = "middle", max_pixels: int = 100_000_000) -> list[Scan]:
    """Read the slices of a picture, a DICOM file or a NIfTI volume, which are told apart by their content.

    Args:
        name: of the file; only matters for a DICOM file without the signature.
        data: its content.
        wanted: "middle" (the axial slices at 40, 50 and 60 % of the head of NIfTI; else the frame or page after half
            of them), "all", or the number of one slice, from 0.
        max_pixels: largest number of pixels, over all frames or slices, that is decoded.

    Returns:
        The wanted slices in order, at least one, in DICOM and NIfTI with square pixels. Axial slices of NIfTI have
        anterior at the top and the patient's right on the left.

    Raises:
        UnreadableImage: the file is damaged, too large, of another format or without such a slice, or an optional
            reader is not installed.
    """
    kind = next((kind for kind in FORMATS if kind.recognises(data)), None)
    if kind is not None:
        found = kind.read(data, wanted, max_pixels)
    else:
        try:
            found = read_picture(data, wanted, max_pixels)
        except UnreadableImage:
            kind = next((kind for kind in FORMATS if kind.by_suffix and name.lower().endswith(kind.suffixes)), None)
            if kind is None:
                raise
            found = kind.read(data, wanted, max_pixels)
    for pixels in found.wanted.values():
        if pixels.ndim != 2 or min(pixels.shape) < 2:
            raise UnreadableImage(f"expected slices of 2 pixels or more a side, got {pixels.shape}")
    several, place = found.count > 1, (found.count, found.series, found.position)
    return [Scan(name, index if several else None, pixels, *place) for index, pixels in found.wanted.items()]


def is_candidate(path: Path) -> bool:
    """Whether a file found in a folder may be a scan: by its suffix, or else by the signature of DICOM.

    Scanners name their files in every way (1.2.840.1, IM0001, x.IMA); of a file with another suffix 132 bytes are read.
    """
    # DICOMDIR lists the files of a disc.
    if path.name.startswith(".") or path.name == "DICOMDIR" or not path.is_file():
        return False
    if path.name.lower().endswith(SUFFIXES):
        return True
    try:
        with path.open("rb") as file:
            return is_dicom(file.read(132))
    except OSError:
        return True  # so that its answer says why it cannot be read
