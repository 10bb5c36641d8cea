"""Frames of DICOM files as a viewer shows them. pydicom is optional and slow to import: only such a file imports it."""

import io

import cv2
import numpy as np

from brain_tumor.imaging.decoding import UnreadableImage
from brain_tumor.serving.readers.common import (
    Slices,
    choose,
    one_line,
    optional_reader,
    squared,
    to_bytes,
    too_large,
)
from brain_tumor.serving.readers.dicom_values import Attributes, is_padding, looked_up, place_in_series, shown

_DEFLATED = b"1.2.840.10008.1.2.1.99"  # transfer syntax whose elements are compressed, not only the pixels
_NEEDED = ("Rows", "Columns", "BitsStored", "PhotometricInterpretation", "PixelData")
_COLOURS = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")  # pydicom makes RGB of each


def is_dicom(data: bytes) -> bool:
    """Whether the content starts with the preamble and signature of a DICOM file."""
    return data[128:132] == b"DICM"


def read_dicom(data: bytes, wanted: str | int, max_pixels: int) -> Slices:
    """The wanted frames; see `formats.read_scans`."""
    with optional_reader("DICOM", "pydicom"):
        from pydicom import dcmread
        from pydicom.pixels import get_decoder
        from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

        if _DEFLATED in data:  # pydicom would inflate it without a bound
            raise UnreadableImage(
                "expected a DICOM file that is not deflated: convert it, as by dcmconv --write-xfer-little"
            )
        dataset = dcmread(io.BytesIO(data), force=True)
        if missing := [keyword for keyword in _NEEDED if keyword not in dataset]:
            raise UnreadableImage(
                f"expected a DICOM image, got a file without {', '.join(missing)}: choose an image of the series"
            )
        if "TransferSyntaxUID" not in dataset.file_meta:
            implicit, little = dataset.original_encoding  # as pydicom found them
            explicit = ExplicitVRLittleEndian if little else ExplicitVRBigEndian
            dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else explicit
        syntax = dataset.file_meta.TransferSyntaxUID
        if not get_decoder(syntax).is_available:
            raise UnreadableImage(
                f"expected pixel data that an installed decoder reads, got {syntax.name}: convert the file to an "
                f"uncompressed one, as by gdcmconv --raw, or, if you trust it, pip install python-gdcm"
            )
        if dataset.get("HighBit") not in (None, dataset.BitsStored - 1):  # PS3.5 8.1.1
            raise UnreadableImage(
                f"expected the {dataset.BitsStored} stored bits to be the lowest ones, got {dataset.HighBit} as the "
                f"highest: convert the file, or correct HighBit"
            )
        frames = int(dataset.get("NumberOfFrames") or 1)
        if not 0 < frames * dataset.Rows * dataset.Columns <= max_pixels:
            raise too_large(f"{frames} x {dataset.Columns} x {dataset.Rows}", max_pixels)
        chosen = choose(wanted, frames, [frames // 2])
        slices = {}
        for index in chosen:
            attributes = Attributes(dataset, index)
            grey = _grey_of_frame(dataset, index, attributes)
            slices[index] = squared(grey, *attributes.spacing(), max_pixels, len(chosen))
        return Slices(frames, slices, *place_in_series(dataset))


def _grey_of_frame(dataset, index: int, attributes: Attributes) -> np.ndarray:
    """(height, width) uint8 as a viewer shows it: padding is black and has no part in the range of the values."""
    from pydicom.pixels import pixel_array

    stored, kind = pixel_array(dataset, index=index), dataset.PhotometricInterpretation
    if kind in _COLOURS:
        return to_bytes(cv2.cvtColor(np.ascontiguousarray(stored), cv2.COLOR_RGB2GRAY), 0, 2**dataset.BitsStored - 1)
    padding = is_padding(stored, dataset, lambda: pixel_array(dataset, index=index, correct_unused_bits=False))
    if kind == "PALETTE COLOR":
        names = [f"{colour}PaletteColorLookupTable" for colour in ("Red", "Green", "Blue")]
        order = attributes.order
        tables = [looked_up(stored, dataset[f"{n}Descriptor"].value, dataset[f"{n}Data"].value, order) for n in names]
        grey = to_bytes(cv2.cvtColor(np.dstack([table for table, _ in tables]), cv2.COLOR_RGB2GRAY), 0, tables[0][1])
    elif kind in ("MONOCHROME1", "MONOCHROME2"):
        grey = shown(stored, padding, attributes)
        grey = 255 - grey if kind == "MONOCHROME1" else grey
    else:
        raise UnreadableImage(f"expected grey, palette, RGB or YBR, got {one_line(kind)}: convert it to MONOCHROME2")
    return np.where(padding, np.uint8(0), grey)
