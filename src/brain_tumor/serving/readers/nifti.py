"""Axial slices of NIfTI volumes. nibabel is optional, and slow to import: only a NIfTI file imports it."""

import gzip
import io
import math

import cv2
import numpy as np

from brain_tumor.imaging.decoding import UnreadableImage
from brain_tumor.serving.readers.common import choose, levels, optional_reader, to_bytes, too_large

_GZIP = b"\x1f\x8b"
_HEADER = 540  # bytes of the longer of the two headers
_CLIP = 0.1  # percent of the voxels saturated at either end: vessels and spikes are far brighter than tissue
# As for the box of the head in a picture: what is bright enough to be tissue, and how much of a slice it fills.
_SIGNAL_LEVEL, _SIGNAL_SHARE = 0.12, 0.02


def is_nifti(data: bytes) -> bool:
    """Whether the content may be a NIfTI volume; a gzip file is not unpacked for this."""
    return data.startswith(_GZIP) or _version(data) is not None


def read_nifti(data: bytes, wanted: str | int, max_pixels: int) -> list[tuple[int | None, np.ndarray]]:
    """Number (None for a single slice) and uint8 grey of the wanted slices; see `formats.read_scans`."""
    with optional_reader("NIfTI", "nibabel"):
        volume, sizes = _first_volume(data, max_pixels)
        low, high = levels(volume, _CLIP)
        depth = volume.shape[2]
        filled = (volume > low + (high - low) * _SIGNAL_LEVEL).mean(axis=(0, 1)) > _SIGNAL_SHARE
        bottom, top = np.flatnonzero(filled)[[0, -1]] if filled.any() else (0, depth - 1)
        chosen = choose(wanted, depth, sorted({round(bottom + share * (top - bottom)) for share in (0.4, 0.5, 0.6)}))
        # Thick sagittal or coronal slices give oblong pixels, which are stretched to squares.
        width, height = (round(n * size / sizes[:2].min()) for n, size in zip(volume.shape[:2], sizes[:2], strict=True))
        if width * height * len(chosen) > max_pixels:
            raise too_large(f"{len(chosen)} x {width} x {height}", max_pixels)
        slices = []
        for index in chosen:
            grey = to_bytes(volume[::-1, ::-1, index].T, low, high)
            slices.append((index if depth > 1 else None, cv2.resize(grey, (width, height))))
        return slices


def _first_volume(data: bytes, max_pixels: int) -> tuple[np.ndarray, np.ndarray]:
    """(x, y, z) voxels running to the patient's right, anterior and superior, and the (3,) edges of a voxel in mm."""
    from nibabel import Nifti1Header, Nifti2Header
    from nibabel.affines import voxel_sizes
    from nibabel.orientations import apply_orientation, io_orientation

    # Unpacked up to the end of the first volume and no further, whatever else is packed.
    stream = gzip.GzipFile(fileobj=io.BytesIO(data)) if data.startswith(_GZIP) else io.BytesIO(data)
    head = stream.read(_HEADER)
    if not (version := _version(head)):
        raise UnreadableImage("expected a NIfTI volume in the gzip file, got something else: unpack it first")
    header = Nifti1Header(head[:348]) if version == 1 else Nifti2Header(head)
    shape = (*header.get_data_shape(), 1, 1)[:3]
    kind, offset, voxels = header.get_data_dtype(), header.get_data_offset(), math.prod(shape)
    if kind.kind not in "iuf":
        raise UnreadableImage(
            f"expected one real number a voxel, got {header.get_value_label('datatype')}: convert it to a grey volume"
        )
    if not 0 < voxels <= max_pixels or offset > 8 * max_pixels:
        raise too_large(f"{' x '.join(map(str, shape))} from byte {offset:,} on", max_pixels)
    # One byte more: a volume that ends with the gzip file has its checksum looked at.
    data = head + stream.read(max(offset + voxels * kind.itemsize - len(head), 0) + 1)
    volume = np.frombuffer(data, kind, voxels, offset).reshape(shape, order="F")
    slope, intercept = header.get_slope_inter()
    if slope is not None and (slope, intercept) != (1, 0):
        volume = volume * slope + intercept
    affine = header.get_best_affine()
    orientation = io_orientation(affine)
    return apply_orientation(volume, orientation), voxel_sizes(affine)[np.argsort(orientation[:, 0])]


def _version(head: bytes) -> int | None:
    return 1 if head[344:348] == b"n+1\0" else 2 if head[4:8] == b"n+2\0" else None
