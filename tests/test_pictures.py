"""Pictures as other programs write them: every encoding of a TIFF or PNG is read rightly or refused, never wrongly.

The files are written by hand or by Pillow, and the right picture is computed by NumPy from the planted head.
"""

import io
import struct

import cv2
import numpy as np
import pytest
from PIL import Image
from scan_files import GREY, GREY_ALPHA, H16, PALETTE, RGB, RGBA, correlation, encoded, levels, png, tiff, tiff_page

from brain_tumor.imaging.decoding import UnreadableImage, decode
from brain_tumor.serving.readers.formats import read_scans

SHARE = H16 / 1920
H8, DEEP = np.rint(SHARE * 255).astype(np.uint8), np.rint(SHARE * 65535).astype(np.uint16)
OPAQUE = (
    np.hypot(*(np.indices(H16.shape) - np.array([50, 38])[:, None, None]) / [[[30]], [[22]]]) < 1
)  # without the skull
SEEN = np.where(OPAQUE, H16, 0)


def refusal(data: bytes, **options) -> str:
    with pytest.raises(UnreadableImage) as caught:
        read_scans("x.tif", data, **options)
    assert str(caught.value).isprintable()
    return str(caught.value)


def saved(image: Image.Image, form: str, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


# --- encodings of TIFF


@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("tile", [0, 16])
@pytest.mark.parametrize("photometric", [0, 1])
def test_16_bits_are_right_whichever_value_is_white(photometric, tile, order, big):
    stored = 65535 - DEEP if photometric == 0 else DEEP
    data = tiff(tiff_page(stored, photometric, order=order, tile=tile), order=order, big=big)
    assert np.abs(decode(data) - levels(H16)).max() <= 1


@pytest.mark.parametrize(
    "bits, kind", [(1, np.uint8), (4, np.uint8), (8, np.uint8), (12, np.uint16), (16, np.uint16), (32, np.uint32)]
)
@pytest.mark.parametrize("photometric", [0, 1])
@pytest.mark.parametrize("turned", [1, 6])
def test_every_number_of_bits_is_right_or_refused(bits, kind, photometric, turned):
    values = np.rint(SHARE * (2**bits - 1)).astype(kind)
    stored = values if photometric else (2**bits - 1 - values).astype(kind)
    stored = np.ascontiguousarray(np.rot90(stored)) if turned == 6 else stored
    data = tiff(tiff_page(stored, photometric, bits=bits, orientation=turned, deflate=True))
    if bits in (4, 32):
        assert refusal(data)
    else:
        assert np.abs(decode(data) - levels(values)).max() <= 1


@pytest.mark.parametrize("kind", [np.int8, np.int16, np.int32, np.float16, np.float32, np.float64])
@pytest.mark.parametrize("photometric", [0, 1])
def test_signs_and_fractions_are_refused(kind, photometric):
    assert refusal(tiff(tiff_page((SHARE * 100 - 50).astype(kind), photometric)))


COLOURED = {
    "planes": (np.dstack([DEEP] * 3), 2, {"planar": 2}),
    "tiled planes": (np.dstack([DEEP] * 3), 2, {"planar": 2, "tile": 16}),
    "grey and more": (np.dstack([DEEP, DEEP * 0, DEEP // 2]), 1, {"extra": [0, 0]}),
    "CMYK": (np.dstack([DEEP * 0] * 3 + [65535 - DEEP]), 5, {}),
    "palette": (DEEP, 3, {"palette": [0] * 3 * 65536}),
    "mask": (DEEP, 4, {}),
    "CFA": (DEEP, 32803, {}),
    "YCbCr": (np.dstack([DEEP] * 3), 6, {}),
    "grey and alpha": (np.dstack([DEEP, DEEP]), 1, {"extra": [2]}),
}


@pytest.mark.parametrize("what", COLOURED)
def test_samples_of_16_bits_that_opencv_takes_for_colours_are_refused(what):
    pixels, photometric, more = COLOURED[what]
    assert "got" in refusal(tiff(tiff_page(pixels, photometric, **more)))


@pytest.mark.parametrize("values", [H8, DEEP], ids=["8", "16"])
def test_colours_become_luminance(values):
    for channel, weight in enumerate((0.299, 0.587, 0.114)):
        colours = np.zeros((*H16.shape, 3), values.dtype)
        colours[..., channel] = values
        expected = levels(H16) * (weight if values.itemsize == 1 else 1)  # 16 bits are scaled by their range
        assert np.abs(decode(tiff(tiff_page(colours, 2))) - expected).max() <= 1.5
    planes = np.dstack([H8] * 3)
    assert np.array_equal(decode(tiff(tiff_page(planes, 2, planar=2))), H8)
    shuffled = np.random.default_rng(0).permutation(256)
    table = np.zeros(256, int)
    table[shuffled] = np.arange(256) * 257
    assert np.array_equal(decode(tiff(tiff_page(shuffled[H8].astype(np.uint8), 3, palette=[*table] * 3))), H8)
    assert np.array_equal(decode(tiff(tiff_page(np.dstack([H8 * 0] * 3 + [255 - H8]), 5))), H8)  # CMYK


def test_a_damaged_or_hostile_directory_is_refused():
    data = tiff(tiff_page(H8))
    (place,) = struct.unpack_from("<I", data, 4)
    (entries,) = struct.unpack_from("<H", data, place)
    end = place + 2 + 12 * entries
    assert refusal(data[:end]) and refusal(data[: place + 20]) and refusal(data[:8]) and refusal(data[:4] + bytes(4))
    circle = data[:end] + struct.pack("<I", place)
    assert "pages" in refusal(circle)
    many = data[:place] + b"\xff\xff" + data[place + 2 :] + bytes(70_000 * 12)
    assert "directory" in refusal(many)


# --- pages and frames

PAGES = [np.zeros_like(H8), H8, H8[:, ::-1].copy(), H8[:60].copy()]


@pytest.mark.parametrize("deep", [False, True])
@pytest.mark.parametrize("negative", [False, True])
def test_pages_are_slices(deep, negative):
    stored = [page.astype(np.uint16) * 257 if deep else page for page in PAGES]
    highest = 65535 if deep else 255
    written = [tiff_page((highest - p).astype(p.dtype), 0) if negative else tiff_page(p) for p in stored]
    data = tiff(*written)
    got = read_scans("x.tif", data, "all")
    assert [scan.slice for scan in got] == [0, 1, 2, 3] and {scan.slices for scan in got} == {4}
    assert all(np.abs(scan.pixels - levels(page)).max() <= 1 for scan, page in zip(got[1:], PAGES[1:], strict=True))
    assert not got[0].pixels.any()
    (middle,) = read_scans("x.tif", data)
    assert (middle.slice, middle.slices) == (2, 4) and np.array_equal(middle.pixels, got[2].pixels)
    (chosen,) = read_scans("x.tif", data, 3)
    assert (chosen.slice, chosen.slices) == (3, 4) and np.array_equal(chosen.pixels, got[3].pixels)
    assert "one of 4 slices" in refusal(data, wanted=4)
    assert "4 pages" in refusal(data, max_pixels=sum(page.size for page in PAGES) - 1)
    with pytest.raises(UnreadableImage, match="got 4 pages"):  # a training image is one picture
        decode(data)


def test_thumbnails_and_masks_are_no_pages():
    small = tiff_page(H8[::4, ::4].copy(), subfile=1)
    for pages in (
        [small, tiff_page(DEEP)],
        [tiff_page(DEEP), small],
        [small, tiff_page(DEEP), tiff_page(H8, subfile=4)],
    ):
        (scan,) = read_scans("x.tif", tiff(*pages), "all")
        assert (scan.slice, scan.slices) == (None, 1) and np.abs(scan.pixels - levels(H16)).max() <= 1
    got = read_scans("x.tif", tiff(tiff_page(H8), small, tiff_page(DEEP)), "all")
    assert [(scan.slice, scan.slices) for scan in got] == [(0, 2), (1, 2)] and np.abs(
        got[1].pixels - levels(H16)
    ).max() <= 1
    assert decode(tiff(small)).shape == (24, 20)


@pytest.mark.parametrize("form", ["GIF", "PNG", "WEBP", "TIFF"])
def test_frames_of_an_animation_are_slices(form):
    first, *others = [Image.fromarray(page) for page in PAGES[:3]]
    data = saved(first, form, save_all=True, append_images=others, **({"lossless": True} if form == "WEBP" else {}))
    got = read_scans("x", data, "all")
    assert [(scan.slice, scan.slices) for scan in got] == [(0, 3), (1, 3), (2, 3)]
    assert all(np.abs(scan.pixels.astype(int) - page).max() <= 2 for scan, page in zip(got, PAGES, strict=False))
    assert [(scan.slice, scan.slices) for scan in read_scans("x", data)] == [(1, 3)]
    assert "pixels" in refusal(data, max_pixels=2 * H8.size)
    with pytest.raises(UnreadableImage, match="got 3 pages"):
        decode(data)
    (still,) = read_scans("x", saved(others[0], form, **({"lossless": True} if form == "WEBP" else {})), "all")
    assert (still.slice, still.slices, still.series, still.position) == (None, 1, "", None) and np.array_equal(
        still.pixels, H8
    )


# --- transparency: what is hidden stays hidden, on black


def with_alpha(values: np.ndarray, alpha: np.ndarray, colours: bool) -> np.ndarray:
    return np.dstack([values] * (3 if colours else 1) + [alpha])


@pytest.mark.parametrize("colour", [RGBA, GREY_ALPHA])
@pytest.mark.parametrize("values", [H8, DEEP], ids=["8", "16"])
def test_what_a_png_hides_stays_hidden(values, colour):
    highest = np.iinfo(values.dtype).max
    hidden = with_alpha(values, np.where(OPAQUE, highest, 0), colour == RGBA)
    got = decode(png(hidden, colour, 8 * values.itemsize))
    assert np.abs(got - levels(SEEN)).max() <= 1 and not got[~OPAQUE].any()
    half = with_alpha(values, np.where(OPAQUE, highest // 2, 0), colour == RGBA)
    expected = levels(SEEN) * (0.5 if values.itemsize == 1 else 1)
    assert np.abs(decode(png(half, colour, 8 * values.itemsize)) - expected).max() <= 1.5
    opaque = png(with_alpha(values, np.full_like(values, highest), colour == RGBA), colour, 8 * values.itemsize)
    assert np.array_equal(decode(opaque), decode(png(values, depth=8 * values.itemsize)))
    nothing = with_alpha(values, np.zeros_like(values), colour == RGBA)
    assert "transparent" in refusal(png(nothing, colour, 8 * values.itemsize))


def test_a_transparent_palette_entry_or_colour_is_hidden():
    index = np.where(OPAQUE, np.maximum(H8, 1) // 2, 128 + H8 // 2).astype(np.uint8)  # the upper half is transparent
    table = np.repeat(np.arange(256) % 128 * 2, 3).astype(np.uint8)
    palette = png(index, PALETTE, chunks=(b"PLTE" + table.tobytes(), b"tRNS" + bytes([255] * 128 + [0] * 128)))
    assert np.abs(decode(palette) - np.where(OPAQUE, H8, 0.0)).max() <= 2
    key = 130
    for depth, values in ((8, H8), (16, DEEP)):
        hidden = np.where(OPAQUE, np.where(values == key, key + 1, values), key).astype(values.dtype)
        grey = png(hidden, GREY, depth, (b"tRNS" + struct.pack(">H", key),))
        rgb = png(np.dstack([hidden] * 3), RGB, depth, (b"tRNS" + struct.pack(">3H", key, key, key),))
        for data in (grey, rgb):
            assert np.abs(decode(data) - levels(SEEN)).max() <= 1.5 and not decode(data)[~OPAQUE].any()
    four = np.where(OPAQUE, H8 >> 4, 9).astype(np.uint8)
    got = decode(png(four, GREY, 4, (b"tRNS" + struct.pack(">H", 9),)))
    assert np.array_equal(got, np.where(four == 9, 0, four * 17))
    other = np.dstack([H8, H8, np.full_like(H8, 200)])  # red, green, blue
    data = png(other, RGB, chunks=(b"tRNS" + struct.pack(">3H", 200, 200, 7),))  # only this blue would be transparent
    assert np.abs(decode(data) - other @ [0.299, 0.587, 0.114]).max() < 1.01


def test_what_other_formats_hide_stays_hidden():
    alpha = np.where(OPAQUE, 255, 0).astype(np.uint8)
    hidden = Image.fromarray(with_alpha(H8, alpha, True))
    webp = decode(saved(hidden, "WEBP", lossless=True, exact=True))
    assert np.abs(webp - np.where(OPAQUE, H8, 0.0)).max() <= 1
    turned = Image.Exif()
    turned[0x0112] = 6
    assert np.array_equal(decode(saved(hidden, "WEBP", lossless=True, exact=True, exif=turned)), np.rot90(webp, -1))
    assert np.abs(decode(saved(hidden, "PNG", exif=turned)) - np.rot90(np.where(OPAQUE, H8, 0.0), -1)).max() <= 1
    gif = saved(Image.fromarray(np.where(OPAQUE, H8 // 2, 200).astype(np.uint8)), "GIF", transparency=200)
    assert np.abs(decode(gif) - np.where(OPAQUE, H8 // 2, 0.0)).max() <= 1
    colours = with_alpha(H8, alpha, True)
    for extra in ({}, {"extra": [0]}, {"extra": [2]}):  # not told, of no kind, and not multiplied in
        assert np.abs(decode(tiff(tiff_page(colours, 2, **extra))) - np.where(OPAQUE, H8, 0.0)).max() <= 1
        deep = with_alpha(DEEP, alpha.astype(np.uint16) * 257, True)
        assert np.abs(decode(tiff(tiff_page(deep, 2, **extra))) - levels(SEEN)).max() <= 1
    multiplied = with_alpha(np.where(OPAQUE, H8, 0).astype(np.uint8), alpha, True)
    assert np.abs(decode(tiff(tiff_page(multiplied, 2, extra=[1]))) - np.where(OPAQUE, H8, 0.0)).max() <= 1
    assert "transparency" in refusal(tiff(tiff_page(with_alpha(H8, alpha, False), extra=[2])))
    assert "transparency" in refusal(saved(Image.fromarray(with_alpha(H8, alpha, False), "LA"), "TIFF"))


# --- further encodings


@pytest.mark.parametrize("depth", [1, 2, 4, 8, 16])
def test_every_depth_of_png_is_read(depth):
    values = np.rint(SHARE * (2**depth - 1))
    assert np.abs(decode(png(values, depth=depth)) - levels(values)).max() <= 1


def bmp(pixels: np.ndarray, downwards: bool) -> bytes:
    """32 bits a pixel, of which one byte is unused; rows run upwards unless the height is negative."""
    height, width = pixels.shape
    rows = np.dstack([pixels] * 3 + [np.zeros_like(pixels)])[:: 1 if downwards else -1]
    header = struct.pack("<IiiHHIIiiII", 40, width, -height if downwards else height, 1, 32, 0, rows.size, 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", 54 + rows.size, 0, 0, 54) + header + rows.tobytes()


@pytest.mark.parametrize("downwards", [False, True])
def test_rows_of_bmp_run_either_way_and_its_unused_byte_is_no_alpha(downwards):
    assert np.array_equal(decode(bmp(H8, downwards)), H8)


@pytest.mark.parametrize("highest", [15, 200, 255, 4095, 65535])
def test_every_maximum_of_pgm_is_read(highest):
    values = np.rint(SHARE * highest).astype(np.uint8 if highest < 256 else ">u2")
    data = f"P5\n# by hand\n80 96\n{highest}\n".encode() + values.tobytes()
    assert correlation(decode(data), values) >= 0.9999


def test_cmyk_jpeg_and_a_jpeg_in_tiff_are_read():
    inked = Image.fromarray(np.dstack([H8 * 0] * 3 + [255 - H8]), "CMYK")
    assert correlation(decode(saved(inked, "JPEG", quality=95)), H8) >= 0.99
    assert correlation(decode(saved(Image.fromarray(H8), "TIFF", compression="jpeg", quality=95)), H8) >= 0.99
    assert correlation(decode(saved(Image.fromarray(np.dstack([H8] * 3)), "TIFF", compression="jpeg")), H8) >= 0.99


def test_what_opencv_writes_comes_back():
    for suffix in (".png", ".tiff", ".pgm"):
        assert np.array_equal(decode(encoded(DEEP, suffix)), decode(encoded(DEEP, ".png")))
        assert np.array_equal(decode(encoded(cv2.cvtColor(H8, cv2.COLOR_GRAY2BGR), suffix.replace("pgm", "ppm"))), H8)
