"""A head written in any encoding is read as the same picture, or refused in one line: there is no third outcome.

Hypothesis draws the encodings, the same ones in every run. What is expected is computed by NumPy from the planted
values and the encoding, never by a reader. `LONG=1 pytest --timeout 1500 tests/test_encodings.py` tries 2,000 of each.
"""

import gzip
import io
import os
import struct
from dataclasses import dataclass

import cv2
import numpy as np
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from nibabel import Nifti1Header, Nifti1Image, Nifti2Header, Nifti2Image
from PIL import Image
from pydicom import uid
from pydicom.encaps import encapsulate
from scan_files import GREY, GREY_ALPHA, H16, PALETTE, RGB, RGBA, correlation, dicom, levels, png, tiff, tiff_page

from brain_tumor.imaging.decoding import UnreadableImage
from brain_tumor.serving.readers.formats import read_scans

EXAMPLES = 2000 if os.environ.get("LONG") else 100
some = settings(
    max_examples=EXAMPLES, derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck)
)
CORNERS = np.zeros(H16.shape, bool)
CORNERS[:16, :16] = CORNERS[-16:, -16:] = True
SHARE = H16 / 1920


@dataclass(frozen=True)
class Written:
    """A file, the levels that it shows, how far a reader may be off, whether it may refuse, and the encoding."""

    data: bytes
    shown: np.ndarray
    encoding: dict
    off: float | None = 1.5  # None: only the correlation counts, since the compression loses something
    may_refuse: bool = False

    def _repr_pretty_(self, printer, _) -> None:
        printer.text(str(self.encoding))


def stretched(picture: np.ndarray, high: float, wide: float) -> np.ndarray:
    """With square pixels instead of high x wide ones, by linear interpolation between the centres of pixels."""
    for axis, edge in enumerate((high, wide)):
        before = picture.shape[axis]
        after = round(before * edge / min(high, wide))
        places = np.clip((np.arange(after) + 0.5) * before / after - 0.5, 0, before - 1)
        left = np.minimum(places.astype(int), before - 2)
        share = np.expand_dims(places - left, 1 - axis)
        picture = picture.take(left, axis) * (1 - share) + picture.take(left + 1, axis) * share
    return picture


def check(name: str, written: Written, wanted: str | int = "middle") -> None:
    try:
        found = read_scans(name, written.data, wanted)
    except UnreadableImage as error:
        assert written.may_refuse, f"refused: {error}"
        assert str(error) and str(error).isprintable()
        event("refused")
        return
    got, expected = found[len(found) // 2].pixels, written.shown
    event("read")
    assert got.dtype == np.uint8
    assert got.shape == expected.shape
    similar, off = correlation(got, expected), np.abs(got - expected).max()
    assert np.ptp(expected) == 0 or similar >= 0.99
    assert written.off is None or off <= written.off


# --- DICOM

LITTLE, BIG, IMPLICIT = uid.ExplicitVRLittleEndian, uid.ExplicitVRBigEndian, uid.ImplicitVRLittleEndian
SYNTAXES = [LITTLE, BIG, IMPLICIT, uid.RLELossless, uid.JPEG2000Lossless, uid.JPEGBaseline8Bit]


@st.composite
def dicom_files(draw) -> Written:
    bits = draw(st.sampled_from([8, 12, 16]))
    syntax = draw(st.sampled_from(SYNTAXES))
    kind = draw(st.sampled_from(["MONOCHROME1", "MONOCHROME2", "PALETTE COLOR", "RGB"]))
    if syntax == uid.JPEGBaseline8Bit or kind == "RGB":
        bits = 8
    if kind == "RGB" and syntax in (uid.JPEG2000Lossless, uid.JPEGBaseline8Bit):
        syntax = LITTLE
    plain = syntax not in (uid.JPEG2000Lossless, uid.JPEGBaseline8Bit)  # Pillow writes no signs
    signed = draw(st.booleans()) and plain and kind != "RGB"
    more = {"BitsStored": bits, "PhotometricInterpretation": kind}
    type_ = np.dtype(f"{'i' if signed else 'u'}{1 if bits == 8 else 2}")

    # The head takes a part of the levels, so that padding and a window have room.
    lowest, highest = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    low = draw(st.integers(lowest, lowest + 2 ** (bits - 2)))
    high = draw(st.integers(highest - 2 ** (bits - 2), highest))
    edges = draw(st.sampled_from([(1, 1), (2, 1), (1, 2), (0.7, 0.7), (0.9, 0.4), (0.5, 0.75)]))
    rows, columns = (2 if edges[0] > edges[1] else 1), (2 if edges[1] > edges[0] else 1)
    values = np.rint(low + SHARE[::rows, ::columns] * (high - low)).astype(int)
    corners = CORNERS[::rows, ::columns] & draw(st.booleans())
    if not plain or kind == "RGB" or (low, high) == (lowest, highest):
        corners = corners & False
    if corners.any():
        padding = lowest if low > lowest else highest
        values[corners] = padding
        more |= {"PixelPaddingValue": padding}
        if draw(st.booleans()):
            values[corners] = lower = (lowest + low) // 2 if low > lowest + 1 else padding
            more |= {"PixelPaddingRangeLimit": lower}

    if kind == "PALETTE COLOR":
        table = draw(st.permutations(range(256)))
        values = (values - lowest) >> max(bits - 8, 0)
        first = draw(st.integers(0, 3))
        stored, type_, bits, signed = values, np.dtype("u1"), 8, False
        more |= {"BitsStored": 8}
        shown = np.array(table)[np.clip(stored - first, 0, 255)].astype(float)
        for colour in ("Red", "Green", "Blue"):
            more |= {f"{colour}PaletteColorLookupTableDescriptor": [256, first, 8]}
            more |= {f"{colour}PaletteColorLookupTableData": bytes(table)}
        if corners.any():
            more |= {"PixelPaddingValue": int(stored[corners][0])}
            more.pop("PixelPaddingRangeLimit", None)
            corners = stored == stored[corners][0]
    elif kind == "RGB":
        stored = values
        more |= {"SamplesPerPixel": 3, "PlanarConfiguration": 0}
        shown = values.astype(float)
    else:
        stored = values
        slope = draw(st.sampled_from([None, 1, 0.5, 2.25, -1]))
        intercept = draw(st.sampled_from([0, -1024, 7.5]))
        if slope is not None:
            more |= {"RescaleSlope": slope, "RescaleIntercept": intercept}
        rescaled = values * (slope or 1) + (intercept if slope is not None else 0)
        inside = rescaled[~corners]
        start, end = inside.min(), inside.max()
        window = draw(st.sampled_from(["none", "whole", "half", "broken"]))
        if window in ("whole", "half"):
            width = round((end - start) * (1 if window == "whole" else 0.7)) + 1
            centre = round((start + end) / 2)
            more |= {"WindowCenter": [centre, 1], "WindowWidth": [width, 2], "VOILUTFunction": "LINEAR_EXACT"}
            start, end = centre - width / 2, centre + width / 2
        elif window == "broken":
            more |= draw(
                st.sampled_from([{"WindowWidth": 9}, {"WindowCenter": 9}, {"WindowCenter": 9, "WindowWidth": 0}])
            )
        shown = np.clip((rescaled - start) / (end - start), 0, 1) * 255
        shown = 255 - shown if kind == "MONOCHROME1" else shown
    shown = np.where(corners, 0, shown)
    if edges != (1, 1) or draw(st.booleans()):
        more |= {draw(st.sampled_from(["PixelSpacing", "ImagerPixelSpacing"])): list(edges)}

    pixels = stored.astype(type_)
    pixels = np.dstack([pixels] * 3) if kind == "RGB" else pixels
    if bits == 12 and draw(st.booleans()) and plain and syntax != uid.RLELossless:
        pixels = (pixels.view(np.uint16) & 0xFFF | 0xA000).view(type_)  # bits that are not stored
    off, content = 1.5, b""
    if syntax == uid.JPEG2000Lossless:
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "JPEG2000", irreversible=False, no_jp2=True)
        content = encapsulate([file.getvalue()])
    elif syntax == uid.JPEGBaseline8Bit:
        jpeg = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, 98])[1].tobytes()
        content, off = encapsulate([jpeg]), None
        if kind == "PALETTE COLOR":  # which nobody compresses with loss
            syntax, content, off = LITTLE, b"", 1.5
    signature = draw(st.booleans()) or syntax not in (LITTLE, BIG, IMPLICIT)
    told = {"dtype": type_.str, "syntax": syntax.name, "signature": signature} | {k: str(more[k])[:40] for k in more}
    return Written(dicom(pixels, content, syntax, signature, **more), stretched(shown, *edges), told, off)


@some
@given(dicom_files())
def test_dicom(written):
    check("x.dcm", written)


# --- TIFF and PNG


@st.composite
def tiff_files(draw) -> Written:
    bits = draw(st.sampled_from([1, 4, 8, 12, 16, 16, 32]))
    sign = draw(st.sampled_from(["u", "u", "u", "i", "f"])) if bits in (8, 16, 32) else "u"
    sign = "u" if (bits, sign) == (8, "f") else sign
    kind = np.dtype(f"{sign}{max(1, -(-bits // 8)) if bits != 12 else 2}")
    photometric = draw(st.sampled_from([0, 1, 2, 3, 5]))
    order, big = draw(st.sampled_from("<>")), draw(st.booleans())
    highest = 2**bits - 1 if sign == "u" else 2 ** (bits - 1) - 1 if sign == "i" else 1
    values = SHARE * highest if sign == "f" else np.rint(SHARE * highest)
    shown = levels(values)
    tags = {"tile": draw(st.sampled_from([0, 0, 16])), "deflate": draw(st.booleans()), "bits": bits}
    turned = tags["orientation"] = draw(st.sampled_from(range(1, 9)))
    stored = values
    if photometric == 0:
        stored = -1 - values if sign == "i" else highest - values
    elif photometric == 3:
        shuffled = np.random.default_rng(draw(st.integers(0, 9))).permutation(2 ** min(bits, 16))
        table = np.zeros(len(shuffled), int)
        table[shuffled] = np.arange(len(shuffled)) * 65535 // (len(shuffled) - 1)
        tags |= {"palette": [*table] * 3}
        stored = shuffled[np.clip(values, 0, len(shuffled) - 1).astype(int)]
    elif photometric == 5:
        stored = highest - values
    # What row 0 and column 0 are: TIFF 6.0, tag Orientation.
    unturned = {1: lambda a: a, 2: lambda a: a[:, ::-1], 3: lambda a: a[::-1, ::-1], 4: lambda a: a[::-1]}
    unturned |= {5: lambda a: a.T, 6: lambda a: a.T[::-1], 7: lambda a: a.T[::-1, ::-1], 8: lambda a: a.T[:, ::-1]}
    stored = np.ascontiguousarray(unturned[turned](stored)).astype(kind)
    if photometric == 2:
        stored, tags["planar"] = np.dstack([stored] * 3), draw(st.sampled_from([1, 2]))
    elif photometric == 5:
        stored = np.dstack([stored * 0] * 3 + [stored])
    page = tiff_page(stored, photometric, order=order, **tags)
    empty = tiff_page(np.zeros_like(stored), photometric, order=order, **{**tags, "orientation": 1})
    pages = draw(st.sampled_from([[page], [empty, page], [empty, page, empty]]))
    # What must be read: whole numbers without a sign, grey of any depth, colours of 8 bits, and of 16 if interleaved.
    # OpenCV reads no tiles of 8 bits.
    grey = photometric in (0, 1) and bits in (1, 8, 12, 16)
    colour = bits == 8 or (bits == 16 and photometric == 2 and tags["planar"] == 1)
    must_read = sign == "u" and (grey or colour) and (bits > 8 or not tags["tile"])
    told = {"dtype": kind.str, "photometric": photometric, "order": order, "big": big, "pages": len(pages)}
    told |= {name: tag for name, tag in tags.items() if name != "palette"}
    return Written(tiff(*pages, order=order, big=big), shown, told, may_refuse=not must_read)


@some
@given(tiff_files())
def test_tiff(written):
    check("x.tif", written)


@st.composite
def png_files(draw) -> Written:
    colour = draw(st.sampled_from([GREY, RGB, PALETTE, GREY_ALPHA, RGBA]))
    depth = draw(st.sampled_from({GREY: [1, 2, 4, 8, 16], PALETTE: [4, 8]}.get(colour, [8, 16])))
    highest = 2**depth - 1
    values = np.rint(SHARE * highest).astype(int)
    seen, chunks = values.astype(float), []
    hidden = CORNERS | (H16 > 1500) & draw(st.booleans())
    see_through = draw(st.booleans())
    if colour in (GREY_ALPHA, RGBA):
        alpha = np.full(values.shape, highest)
        if see_through:
            alpha[hidden] = draw(st.integers(0, highest // 2))
        seen = values * alpha / highest
        stored = np.dstack([values] * (3 if colour == RGBA else 1) + [alpha])
    elif colour == PALETTE:
        shuffled = np.random.default_rng(draw(st.integers(0, 9))).permutation(highest + 1)
        table = np.argsort(shuffled) * 255 // highest
        stored = shuffled[values]
        alpha = np.full(highest + 1, 255)
        if see_through:
            alpha[draw(st.integers(0, highest))] = 0
        chunks = [b"PLTE" + bytes(np.repeat(table, 3).astype(np.uint8)), b"tRNS" + bytes(alpha.astype(np.uint8))]
        seen = table[stored] * alpha[stored] / 255 * highest / 255
    else:
        key = int(values[CORNERS][0]) if draw(st.booleans()) else int(values[50, 40])
        if see_through:
            chunks = [b"tRNS" + struct.pack(">H", key) * (3 if colour == RGB else 1)]
            seen = np.where(values == key, 0.0, values)
        stored = np.dstack([values] * 3) if colour == RGB else values
    shown = levels(seen) if depth == 16 else seen / highest * 255  # 16 bits are scaled by their range
    told = {"colour": colour, "depth": depth, "see_through": see_through, "chunks": [chunk[:8] for chunk in chunks]}
    return Written(png(stored, colour, depth, tuple(chunks)), shown, told, may_refuse=not shown.any())


@some
@given(png_files())
def test_png(written):
    check("x.png", written)


@some
@given(
    st.sampled_from([".jpg", ".webp", ".bmp", ".pgm", ".ppm", ".png", ".tiff", ".jp2"]),
    st.booleans(),
    st.booleans(),
    st.sampled_from(range(1, 9)),
)
def test_what_opencv_and_pillow_write(suffix, colour, deep, turned):
    deep = deep and suffix in (".pgm", ".png", ".tiff") and not colour
    values = np.rint(SHARE * 65535).astype(np.uint16) if deep else np.rint(SHARE * 255).astype(np.uint8)
    pixels = np.dstack([values] * 3) if colour else values
    if turned == 1 or suffix not in (".jpg", ".webp", ".png") or deep:
        data = cv2.imencode(suffix.replace("pgm", "ppm") if colour else suffix.replace("ppm", "pgm"), pixels)[
            1
        ].tobytes()
        expected = levels(H16)
    else:  # by the mark of a camera: 2 mirrored, 3 upside down, 6 and 8 a quarter to the right and to the left, ...
        mark, file = Image.Exif(), io.BytesIO()
        mark[0x0112] = turned
        form = {".jpg": "JPEG", ".webp": "WEBP", ".png": "PNG"}[suffix]
        Image.fromarray(pixels).save(file, form, exif=mark, quality=95)
        data, shown = file.getvalue(), levels(H16)
        expected = [shown, shown[:, ::-1], shown[::-1, ::-1], shown[::-1]][turned - 1] if turned < 5 else None
        if expected is None:
            expected = [shown.T, np.rot90(shown, -1), shown[::-1, ::-1].T, np.rot90(shown)][turned - 5]
    check(f"x{suffix}", Written(data, expected, {}, None if suffix in (".jpg", ".webp", ".jp2") else 1.5))


# --- NIfTI

SLICES = np.stack([H16 * share for share in (0.5, 0.7, 1.0, 0.9, 0.6)], axis=2)
UPRIGHT = SLICES.transpose(1, 0, 2)[::-1, ::-1]  # x to the right, y to anterior, z to superior


@st.composite
def nifti_files(draw) -> Written:
    kind = draw(st.sampled_from(["u1", "i2", "u2", "i4", "f4", "f8"]))
    volume = UPRIGHT / 8 if kind == "u1" else UPRIGHT
    volume = volume if kind[0] == "f" else np.rint(volume)
    slope, intercept = draw(st.sampled_from([(1, 0), (0.5, -300), (2.5, 8), (-1, 0), (0, 0), (np.nan, np.nan)]))
    scaled = volume * slope + intercept if slope and np.isfinite(slope) else volume
    low, high = np.percentile(scaled, [0.1, 99.9])
    holes = np.zeros(volume.shape, bool)
    if kind[0] == "f" and draw(st.booleans()):
        holes[:6, :6] = True
        low, high = np.percentile(scaled[~holes], [0.1, 99.9])
    stored = np.where(holes, np.nan, volume) if holes.any() else volume

    order = draw(st.permutations(range(3)))
    flips = draw(st.tuples(*[st.sampled_from([1, -1])] * 3))
    edges = draw(st.sampled_from([(1, 1, 1), (1, 1, 5), (2, 1, 3), (0.5, 0.75, 1)]))
    stored = np.ascontiguousarray(stored.transpose(order)[tuple(slice(None, None, flip) for flip in flips)])
    affine = np.diag([0.0, 0, 0, 1])
    for axis, (world, flip) in enumerate(zip(order, flips, strict=True)):
        affine[world, axis] = flip * edges[world]
        affine[world, 3] = 0 if flip > 0 else edges[world] * (stored.shape[axis] - 1)
    if draw(st.booleans()):
        stored = np.stack([stored, stored[::-1]], axis=3)  # of several volumes the first counts
    cls, header = draw(st.sampled_from([(Nifti1Image, Nifti1Header), (Nifti2Image, Nifti2Header)]))
    byte_order = draw(st.sampled_from("<>"))
    image = cls(stored.astype(kind), affine, header(endianness=byte_order))
    image.set_qform(affine, 1)
    data = bytearray(image.to_bytes())
    first = cls is Nifti1Image
    struct.pack_into(f"{byte_order}2{'f' if first else 'd'}", data, 112 if first else 176, slope, intercept)
    broken = draw(st.sampled_from([None, 0.0, np.nan, np.inf]))
    if broken is not None:
        struct.pack_into(f"{byte_order}12{'f' if first else 'd'}", data, 280 if first else 400, *[broken] * 12)
    told = {"kind": kind, "order": byte_order, "version": cls.__name__, "broken": broken, "edges": edges, "axes": order}
    told |= {"flips": flips, "slope": slope, "intercept": intercept, "holes": bool(holes.any()), "shape": stored.shape}
    shown = np.where(holes, 0, np.clip((scaled - low) / (high - low) * 255, 0, 255))[:, :, 2]
    packed = gzip.compress(bytes(data), 1) if draw(st.booleans()) else bytes(data)
    return Written(packed, stretched(shown[::-1, ::-1].T, edges[1], edges[0]), told)


@some
@given(nifti_files())
def test_nifti(written):
    check("x.nii", written, wanted=2)
