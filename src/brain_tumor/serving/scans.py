"""From the content of a file to grey slices: pictures, DICOM and NIfTI."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from brain_tumor.data.layout import IMAGE_SUFFIXES
from brain_tumor.imaging import UnreadableImage, decode
from brain_tumor.serving.dicom import read_dicom
from brain_tumor.serving.nifti import is_nifti, read_nifti
from brain_tumor.serving.slices import choose, too_large

_DICOM_SUFFIXES = (".dcm", ".dicom")
SUFFIXES = frozenset({*IMAGE_SUFFIXES, *_DICOM_SUFFIXES, ".nii", ".nii.gz"})
"""Of the files that a search through a folder takes for scans, in lower case."""


@dataclass(frozen=True)
class Scan:
    """One grey slice.

    Attributes:
        name: of the file.
        slice: number of the frame, or of the axial slice counted from the feet; None where the file is one picture.
        pixels: (height, width) uint8 grey.
    """

    name: str
    slice: int | None
    pixels: np.ndarray


def read_scans(name: str, data: bytes, wanted: str | int = "middle", max_pixels: int = 100_000_000) -> list[Scan]:
    """Read the slices of a picture, a DICOM file or a NIfTI volume, told apart by content.

    Args:
        name: of the file; matters only for a DICOM file that lacks the signature.
        data: its content.
        wanted: "middle" (the middle frame of DICOM, the axial slices at 40, 50 and 60 % of the head of NIfTI),
            "all", or the number of one slice, from 0.
        max_pixels: largest size, over all frames or slices, that is decoded.

    Returns:
        The wanted slices in order, at least one. Axial slices of NIfTI have anterior at the top, the patient's right
        on the left and square pixels.

    Raises:
        UnreadableImage: damaged, too large, of a kind that is not read, without such a slice, or an optional reader
            is missing.
    """
    if data[128:132] == b"DICM":
        slices = read_dicom(data, wanted, max_pixels)
    elif is_nifti(data):
        slices = read_nifti(data, wanted, max_pixels)
    else:
        try:
            slices = _read_picture(data, wanted, max_pixels)
        except UnreadableImage:
            if not name.lower().endswith(_DICOM_SUFFIXES):
                raise
            slices = read_dicom(data, wanted, max_pixels)
    for _, pixels in slices:
        if pixels.ndim != 2 or min(pixels.shape) < 2:
            raise UnreadableImage(f"expected slices of 2 pixels or more a side, got {pixels.shape}")
    return [Scan(name, index, pixels) for index, pixels in slices]


def is_candidate(path: Path) -> bool:
    """Whether a file found in a folder may be a scan: by suffix, or without one if it starts like DICOM."""
    # Scanners name files by dotted numbers, whose last one is no suffix. DICOMDIR lists the files of a disc.
    if path.name.startswith(".") or path.name == "DICOMDIR" or not path.is_file():
        return False
    if path.name.lower().endswith(tuple(SUFFIXES)):
        return True
    if path.suffix and not path.suffix[1:].isdigit():
        return False
    try:
        with path.open("rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:
        return False


def _read_picture(data: bytes, wanted: str | int, max_pixels: int) -> list[tuple[int | None, np.ndarray]]:
    try:
        grey = decode(data)
    except UnreadableImage as error:
        if "CV_IO_MAX_IMAGE" in str(error):  # the name of OpenCV's own limit, to which imaging sets it
            raise too_large("a larger picture", max_pixels) from error
        raise
    if grey.size > max_pixels:
        raise too_large(f"{grey.shape[1]} x {grey.shape[0]}", max_pixels)
    choose(wanted, 1, [0])
    return [(None, grey)]
