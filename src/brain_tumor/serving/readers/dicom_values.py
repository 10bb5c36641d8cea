"""From the stored values of a DICOM frame to grey levels, by the attributes of the frame."""

import hashlib
import math
from collections.abc import Callable, Sequence

import numpy as np

from brain_tumor.imaging.decoding import UnreadableImage
from brain_tumor.serving.readers.common import levels, to_bytes

_MACROS = ("PixelValueTransformationSequence", "FrameVOILUTSequence", "PixelMeasuresSequence")
_SHAPES = ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing", "PixelAspectRatio")


class Attributes:
    """The attributes of a frame about its values and pixels; in enhanced files they are in functional groups.

    Args:
        dataset: of the file.
        index: number of the frame.

    Attributes:
        order: "<" or ">", the byte order of the file.
    """

    def __init__(self, dataset, index: int) -> None:
        self._places = [dataset]
        self.order = "<" if dataset.original_encoding[1] else ">"
        for groups, item in (("SharedFunctionalGroupsSequence", 0), ("PerFrameFunctionalGroupsSequence", index)):
            if group := dataset.get(groups):
                if len(group) <= item:
                    raise UnreadableImage(
                        f"expected {groups} of {item + 1} items or more, got {len(group)}: export anew"
                    )
                self._places[:0] = [found[0] for macro in _MACROS if (found := group[item].get(macro))]

    def get(self, keyword: str, default=None):
        """The value, or the first of several; `default` if it is missing or empty."""
        values = (place.get(keyword) for place in self._places)
        value = next((value for value in values if value not in (None, "", [])), default)
        return value[0] if isinstance(value, Sequence) and not isinstance(value, str) else value

    def rescaling(self) -> tuple[float, float]:
        """Slope and intercept of the modality; 1 and 0 where they are missing."""
        told = [self.get("RescaleSlope", 1), self.get("RescaleIntercept", 0)]
        slope, intercept = map(float, told)
        if not (math.isfinite(slope) and slope and math.isfinite(intercept)):
            raise UnreadableImage(
                f"expected a rescaling by numbers, got slope {slope:g} and intercept {intercept:g}: correct the header"
            )
        return slope, intercept

    def window(self) -> tuple[float, float, str] | None:
        """Centre, width and function of the first window that PS3.3 C.11.2.1.2 allows; None if there is none."""
        function = self.get("VOILUTFunction", "LINEAR")
        least = 1 if function == "LINEAR" else 1e-9
        for place in self._places:
            for centre, width in zip(_numbers(place, "WindowCenter"), _numbers(place, "WindowWidth"), strict=False):
                if math.isfinite(centre) and math.isfinite(width) and width >= least:
                    return centre, width, function
        return None

    def spacing(self) -> tuple[float, float]:
        """Height and width of a pixel in mm or as a ratio; 1 and 1 where nothing sensible is told."""
        for keyword in _SHAPES:
            for place in self._places:
                edges = _numbers(place, keyword)
                if len(edges) == 2 and all(math.isfinite(edge) and edge > 0 for edge in edges):
                    return edges[0], edges[1]
        return 1.0, 1.0


def place_in_series(dataset) -> tuple[str, float | None]:
    """What tells the series of a single-frame file, without telling its UID, and the position of the file in it.

    The position is the part of ImagePositionPatient along the normal of the slice (PS3.3 C.7.6.2.1.1), in mm from the
    feet, the front or the right up; or else InstanceNumber.
    """
    series = str(dataset.get("SeriesInstanceUID") or "")
    if not series or int(dataset.get("NumberOfFrames") or 1) > 1:
        return "", None
    series = hashlib.sha256(series.encode()).hexdigest()[:16]
    corner, axes = (_numbers(dataset, f"Image{kind}Patient") for kind in ("Position", "Orientation"))
    if len(corner) == 3 and len(axes) == 6:
        normal = np.cross(axes[:3], axes[3:])
        position = float(normal @ corner) * (1 if normal[np.abs(normal).argmax()] > 0 else -1)
        if math.isfinite(position) and np.linalg.norm(normal) > 0.5:  # 1, unless the two axes are none
            return series, round(position, 3) + 0.0  # no -0.0
    return series, next(iter(_numbers(dataset, "InstanceNumber")), None)


def _numbers(place, keyword: str) -> list[float]:
    """All values of an attribute; none if it is missing, empty or no number."""
    try:
        value = place.get(keyword)
        values = value if isinstance(value, Sequence) and not isinstance(value, str) else [value]
        return [float(each) for each in values]
    except (TypeError, ValueError, OverflowError):
        return []


def is_padding(stored: np.ndarray, dataset, uncorrected: Callable[[], np.ndarray]) -> np.ndarray:
    """(height, width) bool: the pixels that only fill the frame, from PixelPaddingValue to PixelPaddingRangeLimit.

    Both are stored values, before any table or rescaling (PS3.3 C.7.5.1.1.2). Only what is declared is padding.

    Args:
        stored: (height, width) integers.
        dataset: of the file.
        uncorrected: returns them with the bits above those stored, where some scanners leave a padding of their own.
    """
    ends = [int(end) for key in ("PixelPaddingValue", "PixelPaddingRangeLimit") for end in _numbers(dataset, key)[:1]]
    if "PixelPaddingValue" not in dataset or not ends:
        return np.zeros(stored.shape, bool)
    # A negative value may be written as the unsigned one of the same bits, and the other way round.
    kind = stored.dtype
    low, high = np.iinfo(kind).min, np.iinfo(kind).max
    ends = sorted((end - low) % (high - low + 1) + low for end in ends)
    room = 2 ** (dataset.BitsStored - 1) if kind.kind == "i" else 0
    if not -room <= ends[0] <= ends[-1] < 2**dataset.BitsStored - room:
        stored = uncorrected()
    return (stored >= ends[0]) & (stored <= ends[-1])


def shown(stored: np.ndarray, padding: np.ndarray, attributes: Attributes) -> np.ndarray:
    """(height, width) stored values to uint8 by modality table or rescaling, then VOI table, window or range.

    DICOM PS3.3 C.11.1 and C.11.2; by hand, since pydicom 3.0 counts the entries of an 8-bit table in 8 bits.
    """
    if table := attributes.get("ModalityLUTSequence"):
        values, _ = looked_up(stored, table.LUTDescriptor, table.LUTData, attributes.order)
    else:
        slope, intercept = attributes.rescaling()
        values = stored * slope + intercept
    if table := attributes.get("VOILUTSequence"):
        values, highest = looked_up(values, table.LUTDescriptor, table.LUTData, attributes.order)
        return to_bytes(values, 0, highest)
    if (window := attributes.window()) is None:
        return to_bytes(values, *levels(values[~padding], 0))
    centre, width, function = window
    if function == "SIGMOID":
        return to_bytes(1 / (1 + np.exp(-4 * (values - centre) / width)), 0, 1)
    return to_bytes(values, centre - width / 2, centre + width / 2 - (function == "LINEAR"))


def looked_up(values: np.ndarray, descriptor: Sequence[int], data, order: str) -> tuple[np.ndarray, int]:
    """The values through a DICOM table, and the highest level that the table may have (PS3.3 C.11.1.1)."""
    entries, first, bits = descriptor
    entries = entries or 2**16
    if isinstance(data, bytes):
        data = np.frombuffer(data, f"{order}u{len(data) // entries}", entries)
    table = np.atleast_1d(np.asarray(data))
    index = np.clip(values - float(first), 0, len(table) - 1).astype(np.int64)
    return table[index], 2 ** min(bits, 8 * table.itemsize) - 1
