"""A synthetic head, and writers of scans that are independent of the readers: pydicom, nibabel, or bytes made here."""

import gzip
import io
import struct
import zlib

import cv2
import numpy as np
from nibabel import Nifti1Image
from pydicom import uid
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filewriter import dcmwrite


def planted_head() -> np.ndarray:
    """(96, 80) int16, 0 to 1920: a smooth head on black, with a skull, a lesion on one side and a mark at the top."""
    y, x = np.mgrid[:96, :80].astype(float)
    distance = np.hypot((x - 38) / 30, (y - 50) / 40)
    brain = np.clip((1 - distance) * 6, 0, 1) * (700 + 5 * x + 250 * np.sin(x / 7) * np.cos(y / 9))
    skull = 900 * np.exp(-(((distance - 0.93) / 0.06) ** 2))
    lesion = 700 * np.exp(-((x - 52) ** 2 + (y - 38) ** 2) / 60)
    mark = 1000 * np.exp(-((x - 12) ** 2 + (y - 9) ** 2) / 20)
    whole = np.where(distance < 1.15, brain + skull + lesion, 0) + mark
    return np.rint((whole - whole.min()) / (whole.max() - whole.min()) * 1920).astype(np.int16)


H16 = planted_head()


def levels(values: np.ndarray) -> np.ndarray:
    """Values over their own range as 0 to 255, not rounded."""
    values = np.asarray(values, float)
    return (values - values.min()) / (values.max() - values.min()) * 255


def correlation(got: np.ndarray, expected: np.ndarray) -> float:
    assert got.shape == expected.shape, f"{got.shape}, expected {expected.shape}"
    return float(np.corrcoef(got.ravel().astype(float), expected.ravel().astype(float))[0, 1])


# --- DICOM


def attributes(**values) -> Dataset:
    dataset = Dataset()
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    return dataset


def dicom(like: np.ndarray, pixels: bytes = b"", syntax=uid.ExplicitVRLittleEndian, signed=True, **more) -> bytes:
    """A file whose pixels are (rows, columns, ...) `like`, or those bytes; `signed`: by the signature of DICOM."""
    bits, width = 8 * like.itemsize, like.shape[1]
    stored = pixels or like.astype(like.dtype.newbyteorder("<" if syntax.is_little_endian else ">")).tobytes()
    needed = {"Rows": len(like), "Columns": width, "SamplesPerPixel": 1, "BitsAllocated": bits, "BitsStored": bits}
    needed |= {"PixelRepresentation": int(like.dtype.kind == "i"), "PhotometricInterpretation": "MONOCHROME2"}
    needed |= {"SOPClassUID": uid.MRImageStorage, "SOPInstanceUID": "1.2.3", "PixelData": stored}
    dataset, file = attributes(**needed | more), io.BytesIO()
    if "HighBit" not in more:
        dataset.HighBit = dataset.BitsStored - 1
    dataset["PixelData"].VR = "OB" if syntax.is_encapsulated or (bits == 8 and not syntax.is_implicit_VR) else "OW"
    if not signed:
        dcmwrite(file, dataset, implicit_vr=syntax.is_implicit_VR, little_endian=syntax.is_little_endian)
        return file.getvalue()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian if syntax == uid.RLELossless else syntax
    if syntax == uid.RLELossless:
        dataset.compress(syntax, generate_instance_uid=False)
    dataset.save_as(file, enforce_file_format=True)
    return file.getvalue()


def with_text(data: bytes, tag: bytes, text: str) -> bytes:
    """An explicit little endian file whose decimal string `tag` is replaced by any text, which pydicom would refuse."""
    place = data.index(tag + b"DS") + 6
    (length,) = struct.unpack_from("<H", data, place)
    value = text.encode() + b" " * (len(text) % 2)
    return data[:place] + struct.pack("<H", len(value)) + value + data[place + 2 + length :]


# --- NIfTI


def nifti(volume: np.ndarray, affine=None, cls=Nifti1Image, packed: bool = False) -> bytes:
    data = cls(volume, np.eye(4) if affine is None else affine).to_bytes()
    return gzip.compress(data, 1) if packed else data


# --- TIFF, by the TIFF 6.0 and BigTIFF specifications

_TYPES = {3: "H", 4: "I", 16: "Q"}


def tiff(*pages: tuple[dict, list[bytes]], order: str = "<", big: bool = False) -> bytes:
    """A file of pages as `tiff_page` makes them."""
    offset, number, width = ("Q", 16, 8) if big else ("I", 4, 4)
    start = struct.pack(order + "HHH", 43, 8, 0) if big else struct.pack(order + "H", 42)
    out = bytearray((b"II" if order == "<" else b"MM") + start + bytes(width))
    link = len(out) - width
    for tags, chunks in pages:
        places = []
        for chunk in chunks:
            places.append(len(out))
            out += chunk + bytes(len(chunk) % 2)
        tiled = 322 in tags
        tags = tags | {324 if tiled else 273: (number, places), 325 if tiled else 279: (4, [len(c) for c in chunks])}
        entries = b""
        for tag, (kind, values) in sorted(tags.items()):
            raw = struct.pack(f"{order}{len(values)}{_TYPES[kind]}", *values)
            if len(raw) > width:
                out += raw
                raw = struct.pack(order + offset, len(out) - len(raw))
            entries += struct.pack(f"{order}HH{offset}", tag, kind, len(values)) + raw.ljust(width, b"\0")
        struct.pack_into(order + offset, out, link, len(out))
        out += struct.pack(order + ("Q" if big else "H"), len(tags)) + entries
        link = len(out)
        out += bytes(width)
    return bytes(out)


def tiff_page(pixels: np.ndarray, photometric: int = 1, *, order="<", planar=1, tile=0, deflate=False, **tags) -> tuple:
    """A page of (h, w) or (h, w, samples) values; `tags`: extra, orientation, palette, subfile, bits (1 or 12)."""
    samples = np.atleast_3d(pixels)
    height, width, count = samples.shape
    bits = tags.get("bits", 8 * pixels.itemsize)

    def packed(part: np.ndarray) -> bytes:
        if bits in (1, 4, 12):
            wide = part.astype(">u2").reshape(len(part), -1, 1).view(np.uint8)
            raw = np.packbits(np.unpackbits(wide, axis=2)[..., 16 - bits :].reshape(len(part), -1), axis=1).tobytes()
        else:
            raw = part.astype(part.dtype.newbyteorder(order)).tobytes()
        return zlib.compress(raw) if deflate else raw

    planes = [samples[..., k : k + 1] for k in range(count)] if planar == 2 else [samples]
    if tile:
        wide = [np.pad(p, ((0, -height % tile), (0, -width % tile), (0, 0))) for p in planes]
        chunks = [
            packed(p[y : y + tile, x : x + tile])
            for p in wide
            for y in range(0, height, tile)
            for x in range(0, width, tile)
        ]
    else:
        chunks = [packed(p) for p in planes]
    kind = {"u": 1, "i": 2, "f": 3}[pixels.dtype.kind]
    told = {256: (4, [width]), 257: (4, [height]), 258: (3, [bits] * count), 259: (3, [8 if deflate else 1])}
    told |= {262: (3, [photometric]), 277: (3, [count]), 284: (3, [planar]), 339: (3, [kind] * count)}
    told |= {322: (4, [tile]), 323: (4, [tile])} if tile else {278: (4, [height])}
    for name, tag, size in (("extra", 338, 3), ("orientation", 274, 3), ("palette", 320, 3), ("subfile", 254, 4)):
        if name in tags:
            told[tag] = (size, list(np.atleast_1d(tags[name])))
    return told, chunks


# --- PNG, by the specification of the W3C

GREY, RGB, PALETTE, GREY_ALPHA, RGBA = 0, 2, 3, 4, 6


def png(pixels: np.ndarray, colour: int = GREY, depth: int = 8, chunks: tuple[bytes, ...] = ()) -> bytes:
    """A file of (h, w) or (h, w, samples) values; `chunks`: kind and content of what is before the pixels."""
    height, width = pixels.shape[:2]
    flat = pixels.astype(">u2").reshape(height, -1, 1).view(np.uint8)
    bits = np.unpackbits(flat, axis=2)[..., 16 - depth :].reshape(height, -1)
    rows = np.pad(np.packbits(bits, axis=1), ((0, 0), (1, 0)))
    start = b"IHDR" + struct.pack(">2I5B", width, height, depth, colour, 0, 0, 0)
    parts = (start, *chunks, b"IDAT" + zlib.compress(rows.tobytes()), b"IEND")
    framed = (struct.pack(">I", len(p) - 4) + p + struct.pack(">I", zlib.crc32(p)) for p in parts)
    return b"\x89PNG\r\n\x1a\n" + b"".join(framed)


def encoded(pixels: np.ndarray, suffix: str, *options: int) -> bytes:
    return cv2.imencode(suffix, pixels, list(options))[1].tobytes()
