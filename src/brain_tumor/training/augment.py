"""Augmentation: random changes of training images that keep the class."""

from dataclasses import dataclass

import cv2
import numpy as np


@dataclass(frozen=True)
class Augmentation:
    """The largest change of each kind; every change is drawn uniformly up to its limit. 0 switches one off.

    Attributes:
        flip: mirror left and right at random.
        rotate: degrees to either side.
        zoom: relative change of size, 0.1 for 0.9 to 1.1.
        stretch: relative change of the aspect ratio.
        shift: share of the edge, in either direction.
        contrast: relative change of contrast.
        brightness: share of the full scale, to either side.
        gamma: exponent from 1 / (1 + gamma) to 1 + gamma.
        tone: random tone curve: its three inner knots move up or down by this share of the full scale, so that
            tissues change their order of brightness, as between scanners and sequences (after the non-linear
            intensity transformation of Zhou et al., Models Genesis, MICCAI 2019). Black stays black.
        sequence: share of the images whose knots above black take any brightness instead, so that dark and bright
            tissues may change places, as between T1, T2 and FLAIR.
        bias: brightness varies linearly by this share over the image, like the bias field of a scanner's coils.
        blur: resolution is reduced to as little as 1 / (1 + blur).
        noise: largest standard deviation of Gaussian noise, as a share of the full scale.
        erase: largest edge of an erased rectangle, as a share of the edge of the image.
    """

    flip: bool
    rotate: float
    zoom: float
    stretch: float
    shift: float
    contrast: float
    brightness: float
    gamma: float
    tone: float
    sequence: float
    bias: float
    blur: float
    noise: float
    erase: float


def augment(image: np.ndarray, options: Augmentation, rng: np.random.Generator) -> np.ndarray:
    """One random variant of an image.

    Args:
        image: (size, size) uint8.
        options: limits of the changes.
        rng: the same numbers are drawn whatever the options, so that switching one change off leaves the
            others as they are.

    Returns:
        (size, size) uint8.
    """
    size = image.shape[0]
    u = rng.uniform(-1, 1, 24)
    scale_x = (1 + options.zoom * u[0]) * (1 + options.stretch * u[1])
    scale_y = (1 + options.zoom * u[0]) / (1 + options.stretch * u[1])
    if options.flip and u[2] < 0:
        scale_x = -scale_x
    angle = np.deg2rad(options.rotate * u[3])
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    linear = rotation @ np.diag([scale_x, scale_y])
    centre = (size - 1) / 2
    offset = centre + options.shift * size * u[4:6] - linear @ [centre, centre]
    image = cv2.warpAffine(
        image, np.column_stack([linear, offset]), (size, size), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT
    )
    if options.blur > 0:
        small = max(1, round(size / (1 + options.blur * abs(u[16]))))
        image = cv2.resize(cv2.resize(image, (small, small), interpolation=cv2.INTER_AREA), (size, size))
    knots = np.linspace(0, 1, 5) + options.tone * np.array([0, *u[17:20], 0])
    if abs(u[22]) < options.sequence:
        knots = np.array([0, *(u[[17, 18, 19, 23]] + 1) / 2])
    levels = np.interp(np.linspace(0, 1, 256), np.linspace(0, 1, 5), knots.clip(0, 1))
    levels = levels ** ((1 + options.gamma * abs(u[6])) ** np.sign(u[6]))
    levels = (levels - 0.5) * (1 + options.contrast * u[7]) + 0.5 + options.brightness * u[8]
    image = cv2.LUT(image, (levels * 255).round().clip(0, 255).astype(np.uint8))
    if options.bias > 0:
        rows, columns = np.linspace(-1, 1, size)[:, None], np.linspace(-1, 1, size)
        field = 1 + options.bias * (u[20] * rows + u[21] * columns) / 2
        image = (image * field).round().clip(0, 255).astype(np.uint8)
    if options.noise > 0:
        noise = rng.standard_normal(image.shape, np.float32)
        image = cv2.addWeighted(image, 1, noise, options.noise * abs(u[15]) * 255, 0, dtype=cv2.CV_8U)
    if options.erase > 0 and u[9] < 0:
        height, width = (options.erase * size * (u[10:12] + 1) / 2).astype(int) + 1
        top, left = ((size - np.array([height, width]) + 1) * (u[12:14] + 1) / 2).astype(int)
        image[top : top + height, left : left + width] = round(127.5 * (1 + u[14]))
    return image
