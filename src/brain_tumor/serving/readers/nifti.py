"""Axial slices of NIfTI volumes. nibabel is optional, and slow to import: only a NIfTI file imports it."""

import gzip
import io
import math
from contextlib import suppress

import numpy as np

from brain_tumor.imaging.decoding import UnreadableImage
from brain_tumor.serving.readers.common import Slices, choose, levels, optional_reader, squared, to_bytes, too_large

_GZIP = b"\x1f\x8b"
_HEADER = 540  # bytes of the longer of the two headers
_CLIP = 0.1  # percent of the voxels saturated at either end: vessels and spikes are far brighter than tissue
# As for the box of the head in a picture: what is bright enough to be tissue, and how much of a slice it fills.
_SIGNAL_LEVEL, _SIGNAL_SHARE = 0.12, 0.02


def is_nifti(data: bytes) -> bool:
    """Whether the content may be a NIfTI volume; a gzip file is not unpacked for this."""
    return data.startswith(_GZIP) or _version(data) is not None


def read_nifti(data: bytes, wanted: str | int, max_pixels: int) -> Slices:
    """The wanted axial slices; see `formats.read_scans`."""
    with optional_reader("NIfTI", "nibabel"):
        volume, sizes = _first_volume(data, max_pixels)
        low, high = levels(volume, _CLIP)
        depth = volume.shape[2]
        filled = (volume > low + (high - low) * _SIGNAL_LEVEL).mean(axis=(0, 1)) > _SIGNAL_SHARE
        bottom, top = np.flatnonzero(filled)[[0, -1]] if filled.any() else (0, depth - 1)
        chosen = choose(wanted, depth, sorted({round(bottom + share * (top - bottom)) for share in (0.4, 0.5, 0.6)}))
        slices = {}
        for index in chosen:
            grey = to_bytes(volume[::-1, ::-1, index].T, low, high)
            # Thick sagittal or coronal slices give oblong pixels.
            slices[index] = squared(grey, sizes[1], sizes[0], max_pixels, len(chosen))
        return Slices(depth, slices)


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
    affine = _affine(header)
    orientation = io_orientation(affine)
    return apply_orientation(volume, orientation), voxel_sizes(affine)[np.argsort(orientation[:, 0])]


def _affine(header) -> np.ndarray:
    """(4, 4), from voxels to mm to the right, anterior, superior: sform, else qform, else the edges of a voxel alone.

    The edges only where the header has neither (method 1 of the NIfTI-1 standard), since they tell no direction.
    """
    from nibabel.spatialimages import HeaderDataError

    coded = [kind for kind in ("sform", "qform") if header[f"{kind}_code"] > 0]
    for read in [getattr(header, f"get_{kind}") for kind in coded] or [header.get_base_affine]:
        with suppress(ValueError, HeaderDataError):
            affine = read()
            edges = np.linalg.norm(affine[:3, :3], axis=0)
            # Axes that lie in one plane, or have no length, lead nowhere.
            if np.isfinite(affine).all() and edges.all() and abs(np.linalg.det(affine[:3, :3] / edges)) > 1e-3:
                return affine
    raise UnreadableImage(
        f"expected the orientation of the volume, got {' and '.join(coded) or 'voxel edges'} that cannot be used: "
        f"convert the scan again, or correct the header"
    )


def _version(head: bytes) -> int | None:
    return 1 if head[344:348] == b"n+1\0" else 2 if head[4:8] == b"n+2\0" else None
