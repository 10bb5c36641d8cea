"""Random variants of a training image: exactly nothing when switched off, never more than the limits."""

from dataclasses import fields, replace

import numpy as np
import pytest

from brain_tumor.training.augment import Augmentation, augment

NAMES = [field.name for field in fields(Augmentation)]
# Every kind of change, so that each can be tested.
FULL = Augmentation(
    flip=True,
    rotate=15.0,
    zoom=0.15,
    stretch=0.1,
    shift=0.06,
    contrast=0.25,
    brightness=0.1,
    gamma=0.3,
    tone=0.1,
    sequence=0.5,
    bias=0.2,
    blur=0.5,
    noise=0.03,
    erase=0.25,
)
OFF = Augmentation(**{name: type(getattr(FULL, name))(0) for name in NAMES})
SIZE = 96


def only(**limits) -> Augmentation:
    return replace(OFF, **limits)


def default_only(*names: str) -> Augmentation:
    return only(**{name: getattr(FULL, name) for name in names})


def variant(image: np.ndarray, options: Augmentation, seed: int) -> np.ndarray:
    return augment(image, options, np.random.default_rng(seed))


def noise_image(seed: int = 0, size: int = SIZE) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (size, size)).astype(np.uint8)


def blob(x: float, y: float, width: float = 3.0) -> np.ndarray:
    rows, columns = np.indices((SIZE, SIZE))
    return (200 * np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * width**2))).round().astype(np.uint8)


def centroid(image: np.ndarray) -> np.ndarray:
    rows, columns = np.indices(image.shape)
    weights = image / image.sum(dtype=float)
    return np.array([(columns * weights).sum(), (rows * weights).sum()])


CENTRE = np.full(2, (SIZE - 1) / 2)


def test_bytes_in_bytes_out_and_the_input_is_kept():
    image = noise_image()
    kept = image.copy()
    for seed in range(20):
        got = variant(image, FULL, seed)
        assert got.shape == image.shape
        assert got.dtype == np.uint8
    assert np.array_equal(image, kept)


def test_the_generator_decides():
    image = noise_image()
    first, again, other = (variant(image, FULL, seed) for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("size", [32, 65, 128])
def test_everything_off_is_the_image_itself(size):
    image = noise_image(size=size)
    image.flat[:256] = np.arange(256)  # every level occurs
    for seed in range(10):
        assert np.array_equal(variant(image, OFF, seed), image)


@pytest.mark.parametrize("size", [32, 65, 128])
def test_a_flip_is_exact_and_happens_half_the_time(size):
    image = noise_image(size=size)
    mirrored = 0
    for seed in range(60):
        got = variant(image, only(flip=True), seed)
        is_mirror = np.array_equal(got, image[:, ::-1])
        assert is_mirror or np.array_equal(got, image)
        mirrored += is_mirror
    assert 15 <= mirrored <= 45


@pytest.mark.parametrize("name", NAMES)
def test_each_change_alone_changes_the_image(name):
    image = noise_image()
    assert any(not np.array_equal(variant(image, default_only(name), seed), image) for seed in range(10))


@pytest.mark.parametrize("other", [name for name in NAMES if name != "erase"])
def test_the_erased_rectangle_is_the_same_whatever_else_is_on(other):
    image = np.full((SIZE, SIZE), 200, np.uint8)
    seen = 0
    for seed in range(30):
        alone = variant(image, default_only("erase"), seed)
        erased = alone != 200
        if erased.sum() < 50 or alone[erased][0] > 150:
            continue  # nothing erased, or too much like its surroundings
        both = variant(image, default_only("erase", other), seed)
        assert (both[erased] == alone[erased]).all()
        assert (both[~erased] == alone[erased][0]).mean() < 0.1
        seen += 1
    assert seen >= 3


@pytest.mark.parametrize("other", ["contrast", "gamma", "noise", "erase"])
def test_the_geometry_is_the_same_whatever_else_is_on(other):
    geometry = ["flip", "rotate", "zoom", "stretch", "shift"]
    image = np.where(blob(60, 30, 12.0) > 90, 220, 20).astype(np.uint8)
    for seed in range(20):
        alone, both = (variant(image, default_only(*geometry, *more), seed) for more in ([], [other]))
        assert ((alone > 110) != (both > 110)).mean() < (0.08 if other == "erase" else 0.01)


@pytest.mark.parametrize("limit", [0.03, 0.1])
def test_shift_stays_within_its_limit_and_uses_it(limit):
    image = blob(*CENTRE)
    moves = np.array([centroid(variant(image, only(shift=limit), seed)) - CENTRE for seed in range(80)])
    assert np.abs(moves).max() <= limit * SIZE + 0.1
    for axis in range(2):
        assert moves[:, axis].min() < -0.8 * limit * SIZE
        assert moves[:, axis].max() > 0.8 * limit * SIZE


def test_rotation_turns_about_the_centre_within_its_limit():
    image = blob(CENTRE[0] + 25, CENTRE[1])
    arms = np.array([centroid(variant(image, only(rotate=20), seed)) - CENTRE for seed in range(80)])
    assert np.hypot(*arms.T) == pytest.approx(25, abs=0.3)
    angles = np.degrees(np.arctan2(arms[:, 1], arms[:, 0]))
    assert np.abs(angles).max() <= 20.5
    assert angles.min() < -15
    assert angles.max() > 15


def test_zoom_and_stretch_change_distances_from_the_centre_within_their_limits():
    across, down = blob(CENTRE[0] + 20, CENTRE[1]), blob(CENTRE[0], CENTRE[1] + 20)

    def scales(options):
        return np.array(
            [
                [np.linalg.norm(centroid(variant(image, options, seed)) - CENTRE) / 20 for image in (across, down)]
                for seed in range(60)
            ]
        ).T

    x, y = scales(only(zoom=0.2))
    assert x == pytest.approx(y, abs=0.02)
    assert 0.79 <= x.min() < 0.85
    assert 1.15 < x.max() <= 1.21
    x, y = scales(only(stretch=0.2))
    assert x * y == pytest.approx(1, abs=0.03)
    assert 0.79 <= x.min() < 0.85
    assert 1.15 < x.max() <= 1.21


def test_brightness_and_contrast_stay_within_their_limits():
    levels = np.tile(np.linspace(60, 195, SIZE).round().astype(np.uint8), (SIZE, 1))
    changes, slopes = [], []
    for seed in range(60):
        brighter = variant(levels, only(brightness=0.1), seed).astype(int) - levels
        assert np.ptp(brighter) <= 1
        changes.append(brighter.mean())
        slopes.append(np.polyfit(levels[0].astype(float), variant(levels, only(contrast=0.2), seed)[0], 1)[0])
    assert -26 <= min(changes) < -18
    assert 18 < max(changes) <= 26
    assert 0.79 <= min(slopes) < 0.87
    assert 1.13 < max(slopes) <= 1.21


def test_gamma_keeps_black_and_white_and_the_order_of_the_levels():
    image = np.tile(np.arange(256, dtype=np.uint8), (256, 1))
    middle = []
    for seed in range(40):
        row = variant(image, only(gamma=1.0), seed)[0].astype(int)
        assert (row[0], row[255]) == (0, 255)
        assert (np.diff(row) >= 0).all()
        middle.append(row[128] / 255)
    darkest, brightest = (128 / 255) ** 2, (128 / 255) ** 0.5
    assert darkest - 0.01 <= min(middle) < 0.35
    assert 0.62 < max(middle) <= brightest + 0.01


def test_noise_has_no_bias_and_no_more_than_its_deviation():
    image = np.full((SIZE, SIZE), 120, np.uint8)
    biases, deviations = [], []
    for seed in range(30):
        change = variant(image, only(noise=0.05), seed).astype(float) - 120
        biases.append(change.mean())
        deviations.append(change.std())
    assert abs(np.mean(biases)) < 0.1
    assert max(deviations) <= 0.05 * 255 * 1.05
    assert max(deviations) > 0.8 * 0.05 * 255


def test_erase_fills_one_rectangle_within_its_limit():
    image = np.tile(np.array([[0, 255], [255, 0]], np.uint8), (SIZE // 2, SIZE // 2))
    edges = []
    for seed in range(60):
        changed = variant(image, only(erase=0.25), seed) != image
        if changed.any():
            rows, columns = np.flatnonzero(changed.any(axis=1)), np.flatnonzero(changed.any(axis=0))
            assert changed[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].mean() > 0.45
            edges += [len(rows), len(columns)]
    assert 20 <= len(edges) <= 100  # about half of the images
    assert 18 < max(edges) <= 0.25 * SIZE


LEVELS = np.tile(np.arange(256, dtype=np.uint8), (256, 1))


def curves(images: int = 400, **limits) -> np.ndarray:
    """What becomes of each grey level, (images, 256)."""
    return np.array([variant(LEVELS, only(**limits), seed)[0] for seed in range(images)]).astype(int)


def test_another_sequence_comes_as_often_as_asked_for():
    for share in (0.0, 0.25, 0.6, 1.0):
        changed = (curves(sequence=share) != LEVELS[0]).any(axis=1)
        assert changed.mean() == pytest.approx(share, abs=0.07)
    # An image that is changed at some share is changed in the same way at a larger one.
    few, many = curves(sequence=0.25), curves(sequence=0.6)
    changed = (few != LEVELS[0]).any(axis=1)
    assert (few[changed] == many[changed]).all()


def test_another_sequence_keeps_black_and_may_give_tissue_any_brightness_and_order():
    found = curves(sequence=1.0)
    assert (found[:, 0] == 0).all(), "the background stays dark"
    knots = found[:, [64, 128, 191, 255]]
    for column in knots.T:
        assert np.abs(np.quantile(column, [0.1, 0.5, 0.9]) - 255 * np.array([0.1, 0.5, 0.9])).max() < 20
    order = np.sign(knots[:, 2] - knots[:, 1])
    assert 0.4 < (order < 0).mean() < 0.6, "dark and bright change places"
    assert np.abs(np.corrcoef(knots.T)[np.triu_indices(4, 1)]).max() < 0.15, "each knot by itself"
    for curve in found[:50]:  # straight between the knots
        expected = np.interp(np.arange(256), [0, 63.75, 127.5, 191.25, 255], [0, *curve[[64, 128, 191, 255]]])
        assert np.abs(curve - expected).max() < 5


def test_another_sequence_takes_the_place_of_the_tone_curve():
    both, alone = curves(100, sequence=1.0, tone=0.3), curves(100, sequence=1.0)
    assert (both == alone).all()
    assert (curves(100, sequence=0.5, tone=0.3) != curves(100, sequence=0.5)).any()
