"""What the network sees of an image file: drawn heads, odd files, and the very bits."""

import hashlib
import io

import cv2
import numpy as np
import pytest
from PIL import Image
from settings import preprocessing

from brain_tumor.imaging.decoding import UnreadableImage, decode
from brain_tumor.imaging.preprocessing import Preprocessing, head_box, histogram, prepare, stretch

PLAIN = Preprocessing(size=64, crop=False, clip=0)


def encode(image: np.ndarray, suffix: str = ".png", *options: int) -> bytes:
    done, data = cv2.imencode(suffix, image, list(options))
    assert done
    return data.tobytes()


def ellipse(shape: tuple[int, int], x: int, y: int, half_width: int, half_height: int, level: int = 180) -> np.ndarray:
    rows, columns = np.indices(shape)
    inside = ((columns - x) / (half_width + 0.5)) ** 2 + ((rows - y) / (half_height + 0.5)) ** 2 <= 1
    return np.where(inside, level, 0).astype(np.uint8)


def bright_box(pixels: np.ndarray) -> tuple[int, int, int, int]:
    rows, columns = np.nonzero(pixels > 127)
    return columns.min(), rows.min(), columns.max() + 1, rows.max() + 1


def textured_head() -> np.ndarray:
    random = np.random.default_rng(0)
    head = ellipse((240, 200), 100, 120, 70, 95).astype(int)
    return np.where(head > 0, head + random.integers(-80, 60, head.shape), 0).astype(np.uint8)


# --- the head


@pytest.mark.parametrize("specks", [False, True])
@pytest.mark.parametrize("x", [60, 128, 200])
@pytest.mark.parametrize("y", [75, 150, 220])
def test_the_head_is_found_wherever_it_is(x, y, specks):
    image = ellipse((300, 260), x, y, 50, 65)
    if specks:
        random = np.random.default_rng(x * 1000 + y)
        image = np.where(random.random(image.shape) < 0.002, 255, image).astype(np.uint8)
        image = np.maximum(image, random.integers(0, 12, image.shape).astype(np.uint8))  # a dim background
    planted = np.array([x - 50, y - 65, x + 51, y + 66])
    assert np.abs(np.array(head_box(image)) - planted).max() <= 2


def test_a_head_that_fills_the_image_is_kept_whole():
    assert head_box(np.full((50, 80), 200, np.uint8)) == (0, 0, 80, 50)


@pytest.mark.parametrize("level", [0, 1])
def test_an_image_without_a_head_is_kept_whole(level):
    assert head_box(np.full((50, 80), level, np.uint8)) == (0, 0, 80, 50)


def test_the_crop_makes_the_position_of_the_head_irrelevant():
    options = Preprocessing(size=96, crop=True, clip=0.5)
    left = prepare(encode(ellipse((300, 260), 60, 75, 50, 65)), options).pixels
    right = prepare(encode(ellipse((300, 260), 200, 220, 50, 65)), options).pixels
    assert np.array_equal(left, right)
    assert bright_box(left)[1] == 0
    assert bright_box(left)[3] == 96


# --- shape and scale


@pytest.mark.parametrize("crop", [True, False])
@pytest.mark.parametrize("shape", [(400, 300), (300, 400), (64, 64), (65, 64), (40, 31), (128, 700), (2, 2), (3, 500)])
def test_the_output_is_a_square_of_bytes(shape, crop):
    random = np.random.default_rng(1)
    got = prepare(encode(random.integers(0, 256, shape).astype(np.uint8)), Preprocessing(64, crop, 0.5))
    assert got.pixels.shape == (64, 64)
    assert got.pixels.dtype == np.uint8
    assert (got.height, got.width) == shape


@pytest.mark.parametrize("crop", [True, False])
@pytest.mark.parametrize("size", [64, 96, 512])
@pytest.mark.parametrize("shape", [(400, 250), (250, 400)])
@pytest.mark.parametrize("axes", [(80, 80), (100, 50), (50, 100)])
def test_the_aspect_ratio_is_kept(axes, shape, size, crop):
    image = ellipse(shape, shape[1] // 2, shape[0] // 2, *axes)
    left, top, right, bottom = bright_box(prepare(encode(image), Preprocessing(size, crop, 0)).pixels)
    scale = size / (2 * max(axes) + 1 if crop else max(shape))
    assert right - left == pytest.approx((2 * axes[0] + 1) * scale, abs=2)
    assert bottom - top == pytest.approx((2 * axes[1] + 1) * scale, abs=2)
    assert abs((left + right) / 2 - size / 2) <= 1.5
    assert abs((top + bottom) / 2 - size / 2) <= 1.5


def test_an_image_of_the_right_size_is_not_touched():
    image = np.random.default_rng(2).integers(0, 256, (64, 64)).astype(np.uint8)
    assert np.array_equal(prepare(encode(image), PLAIN).pixels, image)


def test_shrinking_averages():
    image = np.random.default_rng(3).integers(0, 256, (256, 256)).astype(np.uint8)
    blocks = image.reshape(64, 4, 64, 4).mean(axis=(1, 3))
    assert np.abs(prepare(encode(image), PLAIN).pixels - blocks).max() <= 0.51


@pytest.mark.parametrize("options", [Preprocessing(48, crop, clip) for crop in (True, False) for clip in (0, 0.5)])
def test_black_stays_black_and_white_white(options):
    assert (prepare(encode(np.zeros((70, 50), np.uint8)), options).pixels == 0).all()
    assert (prepare(encode(np.full((70, 70), 255, np.uint8)), options).pixels == 255).all()
    bar = prepare(encode(np.full((96, 48), 255, np.uint8)), options).pixels  # white between black margins
    assert (bar[:, 12:36] == 255).all()
    assert (bar[:, :11] == 0).all()
    assert (bar[:, 37:] == 0).all()


# --- intensities


@pytest.mark.parametrize("clip", [0.5, 2.0, 5.0, 20.0])
@pytest.mark.parametrize("low, high", [(0, 255), (40, 200), (100, 131)])
def test_stretch_agrees_with_percentiles(clip, low, high):
    ramp = np.linspace(low, high, 200 * 300).round().astype(np.uint8).reshape(200, 300)
    bottom, top = np.percentile(ramp, [clip, 100 - clip], method="inverted_cdf").astype(float)
    expected = ((ramp - bottom) / (top - bottom) * 255).clip(0, 255)
    assert np.abs(stretch(ramp, clip) - expected).max() < 1


def test_stretch_saturates_the_share_it_is_told():
    image = np.random.default_rng(4).normal(120, 25, (400, 400)).clip(0, 255).astype(np.uint8)
    got = stretch(image, 2.0)
    assert 0.02 <= (got == 0).mean() < 0.03
    assert 0.02 <= (got == 255).mean() < 0.03
    assert (np.diff(got.ravel()[np.argsort(image.ravel(), kind="stable")].astype(int)) >= 0).all()


def test_clip_0_keeps_the_intensities():
    image = textured_head() // 2
    options = Preprocessing(size=240, crop=False, clip=0)
    assert np.array_equal(prepare(encode(image), options).pixels[:, 20:220], image)


def test_the_brightness_of_the_scanner_does_not_matter():
    image = textured_head()
    options = Preprocessing(64, True, 0.5)
    bright, dim = (prepare(encode(i), options).pixels.astype(int) for i in (image, image // 2))
    assert np.abs(bright - dim).mean() < 2


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tiff", ".pgm"])
def test_the_format_of_a_lossless_file_does_not_matter(suffix):
    image = textured_head()
    assert np.array_equal(decode(encode(image, suffix)), image)


@pytest.mark.parametrize("suffix, options", [(".jpg", []), (".jpg", [cv2.IMWRITE_JPEG_PROGRESSIVE, 1]), (".webp", [])])
def test_lossy_formats_are_read(suffix, options):
    image = cv2.GaussianBlur(textured_head(), (0, 0), 2)
    assert np.abs(decode(encode(image, suffix, *options)).astype(int) - image).mean() < 2


def test_colour_becomes_luminance():
    random = np.random.default_rng(5)
    colour = random.integers(0, 256, (40, 50, 3)).astype(np.uint8)  # blue, green, red
    assert np.abs(decode(encode(colour)) - colour @ [0.114, 0.587, 0.299]).max() < 1.01
    grey = random.integers(0, 256, (40, 50)).astype(np.uint8)
    assert np.array_equal(decode(encode(np.dstack([grey] * 3))), grey)


def test_16_bits_are_scaled_by_their_range():
    deep = np.random.default_rng(6).integers(700, 4096, (60, 50)).astype(np.uint16)  # 12 bits, as scanners give
    got = decode(encode(deep))
    assert got.dtype == np.uint8
    expected = (deep - float(deep.min())) / float(deep.max() - deep.min()) * 255
    assert np.abs(got - expected).max() <= 1
    assert (got.min(), got.max()) == (0, 255)
    assert (decode(encode(np.full((9, 9), 5000, np.uint16))) == 0).all()


def test_a_camera_s_rotation_mark_is_obeyed():
    """As every viewer does: EXIF orientation 6 is shown turned a quarter to the right."""
    image = Image.fromarray(textured_head())
    mark = Image.Exif()
    mark[0x0112] = 6
    plain, turned = io.BytesIO(), io.BytesIO()
    image.save(plain, "JPEG")
    image.save(turned, "JPEG", exif=mark)
    assert np.array_equal(decode(turned.getvalue()), np.rot90(decode(plain.getvalue()), -1))


# --- files that are no images


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"not an image at all",
        bytes(1000),
        b"\xff\xd8\xff\xe0",
        b"\x89PNG\r\n\x1a\n",
        encode(np.full((1, 1), 9, np.uint8)),
        encode(np.full((1, 300), 9, np.uint8)),
        encode(np.full((20, 20), 0.5, np.float32), ".tiff"),
    ],
    ids=["empty", "text", "zeros", "jpeg-start", "png-start", "1x1", "300x1", "float"],
)
def test_what_cannot_be_used_is_refused_with_a_reason(data):
    with pytest.raises(UnreadableImage) as caught:
        prepare(data, PLAIN)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("options", [[], [cv2.IMWRITE_JPEG_PROGRESSIVE, 1]], ids=["baseline", "progressive"])
def test_a_truncated_jpeg_is_refused_wherever_it_ends(options):
    data = encode(textured_head(), ".jpg", *options)
    lengths = sorted({*range(1, len(data), 397), *(len(data) - k for k in (1, 2, 3, 10, 100))})
    for length in lengths:
        with pytest.raises(UnreadableImage):
            prepare(data[:length], PLAIN)


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".webp", ".tiff", ".pgm"])
def test_other_truncated_files_are_refused(suffix):
    data = encode(textured_head(), suffix)
    for share in (0.05, 0.5, 0.95):
        with pytest.raises(UnreadableImage):
            prepare(data[: int(share * len(data))], PLAIN)


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_a_damaged_file_is_read_or_refused_and_nothing_else(suffix):
    whole, random, outcomes = encode(textured_head(), suffix), np.random.default_rng(7), set()
    for _ in range(150):
        data = bytearray(whole)
        for position in random.integers(0, len(data), 5):
            data[position] = random.integers(256)
        try:
            assert prepare(bytes(data), preprocessing(size=64)).pixels.shape == (64, 64)
            outcomes.add("read")
        except UnreadableImage:
            outcomes.add("refused")
    assert "refused" in outcomes


# --- the bits

# A change of these values means that models trained before see other images than they learned from. Where
# that is meant, run the test, copy the values it shows into this table, and say so in the changelog.
GOLDEN = {
    Preprocessing(128, True, 0.5): "86f17f61601fc259f46fab753710ec9d88dcfc2773be697dd5eca7739b3e3d4e",
    Preprocessing(320, True, 0.5): "b1d5f29ece1171bd7aff48413ba35338273c4269e0623aff31636ef03f5fb2ec",
    Preprocessing(96, False, 0): "c53124070ace15f72297232f384b06f6e20e6fd3f6af9baf35a8e33937a430bd",
}


def drawn_by_integers() -> np.ndarray:
    """A textured head on a dim background, by integer arithmetic alone: the same on every machine."""
    y, x = np.indices((301, 257))
    square = (x - 120) ** 2 * 4 + (y - 160) ** 2 * 3 - 60**2 * 4  # of the distance from the edge of the head, roughly
    texture = (x * 7 + y * 13 + x * y // 11) % 97
    skirt = np.clip(60 - square // 480, (x + y) % 5, 60)  # one level a pixel: the crop feels a change of its threshold
    return np.where(square < 0, 60 + texture + x // 4, skirt).astype(np.uint8)


def test_the_bits_of_a_prepared_image():
    data = encode(drawn_by_integers())
    got = {options: hashlib.sha256(prepare(data, options).pixels.tobytes()).hexdigest() for options in GOLDEN}
    assert got == GOLDEN


def test_equal_pixels_are_counted_beyond_what_a_float32_holds():
    grey = np.zeros((4200, 4100), np.uint8)
    grey[-1, :3] = 200
    assert histogram(grey).tolist() == np.bincount(grey.ravel(), minlength=256).tolist()
