"""Frames of DICOM files as a viewer shows them. pydicom is optional and slow to import: only such a file imports it."""

import io
from collections.abc import Sequence

import cv2
import numpy as np

from brain_tumor.imaging.decoding import UnreadableImage
from brain_tumor.serving.readers.common import choose, levels, one_line, optional_reader, to_bytes, too_large

_DEFLATED = b"1.2.840.10008.1.2.1.99"  # transfer syntax whose elements are compressed, not only the pixels
_NEEDED = ("Rows", "Columns", "PhotometricInterpretation", "PixelData")
_COLOURS = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")  # pydicom makes RGB of each


def is_dicom(data: bytes) -> bool:
    """Whether the content starts with the preamble and signature of a DICOM file."""
    return data[128:132] == b"DICM"


def read_dicom(data: bytes, wanted: str | int, max_pixels: int) -> list[tuple[int | None, np.ndarray]]:
    """Number (None for a single frame) and uint8 grey of the wanted frames; see `formats.read_scans`."""
    with optional_reader("DICOM", "pydicom"):
        from pydicom import dcmread
        from pydicom.pixels import get_decoder, pixel_array
        from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

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
            implicit = dataset.original_encoding[0]
            dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian
        syntax = dataset.file_meta.TransferSyntaxUID
        if not get_decoder(syntax).is_available:
            raise UnreadableImage(
                f"expected pixel data that an installed decoder reads, got {syntax.name}: convert the file to an "
                f"uncompressed one, as by gdcmconv --raw, or, if you trust it, pip install python-gdcm"
            )
        frames = int(dataset.get("NumberOfFrames") or 1)
        if not 0 < frames * dataset.Rows * dataset.Columns <= max_pixels:
            raise too_large(f"{frames} x {dataset.Columns} x {dataset.Rows}", max_pixels)
        return [
            (index if frames > 1 else None, _grey_of_frame(pixel_array(dataset, index=index), dataset, index))
            for index in choose(wanted, frames, [frames // 2])
        ]


def _grey_of_frame(stored: np.ndarray, dataset, index: int) -> np.ndarray:
    """(height, width) uint8 as a viewer shows it, from what pydicom decodes of a frame."""
    kind = dataset.PhotometricInterpretation
    if kind in ("MONOCHROME1", "MONOCHROME2"):
        grey = _windowed(stored, _Attributes(dataset, index))
        return 255 - grey if kind == "MONOCHROME1" else grey
    if kind == "PALETTE COLOR":
        names = [f"{colour}PaletteColorLookupTable" for colour in ("Red", "Green", "Blue")]
        tables = [_looked_up(stored, dataset[f"{n}Descriptor"].value, dataset[f"{n}Data"].value) for n in names]
        stored, highest = np.dstack([table for table, _ in tables]), tables[0][1]
    elif kind in _COLOURS:
        highest = 2**dataset.BitsStored - 1
    else:
        raise UnreadableImage(f"expected grey, palette, RGB or YBR, got {one_line(kind)}: convert it to MONOCHROME2")
    return to_bytes(cv2.cvtColor(np.ascontiguousarray(stored), cv2.COLOR_RGB2GRAY), 0, highest)


class _Attributes:
    """The attributes of a frame about its grey values; in enhanced files they are in functional groups."""

    def __init__(self, dataset, index: int) -> None:
        self._places = [dataset]
        for groups, item in (("SharedFunctionalGroupsSequence", 0), ("PerFrameFunctionalGroupsSequence", index)):
            for macro in ("PixelValueTransformationSequence", "FrameVOILUTSequence"):
                if (group := dataset.get(groups)) and (found := group[item].get(macro)):
                    self._places.insert(0, found[0])

    def get(self, keyword: str, default=None):
        """The value, or the first of several; `default` if it is missing or empty."""
        values = (place.get(keyword) for place in self._places)
        value = next((value for value in values if value not in (None, "", [])), default)
        return value[0] if isinstance(value, Sequence) and not isinstance(value, str) else value


def _windowed(stored: np.ndarray, attributes: _Attributes) -> np.ndarray:
    """(height, width) stored values to uint8 by modality table or rescaling, then VOI table, window or range.

    DICOM PS3.3 C.11.1 and C.11.2; by hand, since pydicom 3.0 counts the entries of an 8-bit table in 8 bits.
    """
    if table := attributes.get("ModalityLUTSequence"):
        values, _ = _looked_up(stored, table.LUTDescriptor, table.LUTData)
    else:
        values = stored * float(attributes.get("RescaleSlope", 1)) + float(attributes.get("RescaleIntercept", 0))
    if table := attributes.get("VOILUTSequence"):
        values, highest = _looked_up(values, table.LUTDescriptor, table.LUTData)
        return to_bytes(values, 0, highest)
    centre, width = float(attributes.get("WindowCenter", 0)), float(attributes.get("WindowWidth", 0))
    function = attributes.get("VOILUTFunction", "LINEAR")
    if width < (1 if function == "LINEAR" else 1e-9):  # no window, or one that the standard forbids
        return to_bytes(values, *levels(values, 0))
    if function == "SIGMOID":
        return to_bytes(1 / (1 + np.exp(-4 * (values - centre) / width)), 0, 1)
    return to_bytes(values, centre - width / 2, centre + width / 2 - (function == "LINEAR"))


def _looked_up(values: np.ndarray, descriptor: Sequence[int], data) -> tuple[np.ndarray, int]:
    """The values through a DICOM table, and the highest level that the table may have (PS3.3 C.11.1.1)."""
    entries, first, bits = descriptor
    entries = entries or 2**16
    if isinstance(data, bytes):
        data = np.frombuffer(data, f"<u{len(data) // entries}", entries)
    table = np.atleast_1d(np.asarray(data))
    index = np.clip(values - float(first), 0, len(table) - 1).astype(np.int64)
    return table[index], 2 ** min(bits, 8 * table.itemsize) - 1
