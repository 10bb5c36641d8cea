"""Image corruptions: eleven kinds of degradation, each at five strengths.

After ImageNet-C (Hendrycks and Dietterich, ICLR 2019), with the artefacts of MRI. They act on the decoded scan,
before preprocessing. Strength 1 is hardly visible, 3 is a bad image, 5 is worse than most images in practice.
"""

from collections.abc import Callable

import cv2
import numpy as np

STRENGTHS = (1, 2, 3, 4, 5)


def corrupted(grey: np.ndarray, corruption: str, strength: int, seed: int) -> np.ndarray:
    """One scan under one of `CORRUPTIONS`.

    Args:
        grey: (height, width) uint8.
        corruption: name in CORRUPTIONS.
        strength: 1 to 5.
        seed: of noise, directions and sides; a different one for each image, the same one at every strength.

    Returns:
        uint8, of the same shape except for `crop` and `downsampling`.

    Example:
        >>> corrupted(np.full((300, 400), 128, np.uint8), "downsampling", 5, seed=0).shape
        (42, 56)
    """
    change, levels = CORRUPTIONS[corruption]
    result = change(grey.astype(np.float32) / 255, levels[strength - 1], np.random.default_rng(seed))
    return (result * 255).round().clip(0, 255).astype(np.uint8)


def _noise(image: np.ndarray, sigma: float, rng: np.random.Generator) -> np.ndarray:
    """Rician noise of a magnitude image (Gudbjartsson and Patz, Magn. Reson. Med. 34(6), 1995)."""
    real, imaginary = rng.standard_normal((2, *image.shape), dtype=np.float32) * sigma
    return np.hypot(image + real, imaginary)


def _blur(image: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    return cv2.GaussianBlur(image, (0, 0), share * max(image.shape))


def _motion(image: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """The head moves twice while the middle of k-space is read: later lines are those of a shifted and turned head."""
    height, width = image.shape
    spectrum = np.fft.fftshift(np.fft.fft2(image))
    starts = np.sort(rng.integers(height * 2 // 5, height * 3 // 5, 2))
    for start in starts:
        angle, dx, dy = rng.uniform(-1, 1, 3) * share * np.array([90, width, height])
        turn = cv2.getRotationMatrix2D((width / 2, height / 2), angle, 1)
        turn[:, 2] += dx, dy
        moved = cv2.warpAffine(image, turn, (width, height))
        spectrum[start:] = np.fft.fftshift(np.fft.fft2(moved))[start:]
    return np.abs(np.fft.ifft2(np.fft.ifftshift(spectrum))).astype(np.float32)


def _bias_field(image: np.ndarray, depth: float, rng: np.random.Generator) -> np.ndarray:
    """Brightness falls with the distance from a coil at one side."""
    height, width = image.shape
    angle = rng.uniform(0, 2 * np.pi)
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j].astype(np.float32)
    along = (x * np.cos(angle) + y * np.sin(angle)) / np.sqrt(2)
    return image * (1 - depth * ((1 + along) / 2) ** 1.5)


def _contrast(image: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """All greys, the background included, move towards the mean grey."""
    return image.mean() + (image - image.mean()) * share


def _gamma(image: np.ndarray, exponent: float, rng: np.random.Generator) -> np.ndarray:
    return image ** (exponent if rng.random() < 0.5 else 1 / exponent)


def _jpeg(image: np.ndarray, quality: float, rng: np.random.Generator) -> np.ndarray:
    pixels = (image * 255).round().astype(np.uint8)
    _, encoded = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, int(quality)])
    return cv2.imdecode(encoded, cv2.IMREAD_GRAYSCALE).astype(np.float32) / 255


def _downsampling(image: np.ndarray, edge: float, rng: np.random.Generator) -> np.ndarray:
    factor = edge / max(image.shape)
    return image if factor >= 1 else cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)


def _rotation(image: np.ndarray, degrees: float, rng: np.random.Generator) -> np.ndarray:
    height, width = image.shape
    turn = cv2.getRotationMatrix2D((width / 2, height / 2), degrees * rng.choice([-1, 1]), 1)
    return cv2.warpAffine(image, turn, (width, height))


def _crop(image: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """One side of the image is cut off, and half as much of a neighbouring side."""
    turns = int(rng.integers(4))
    turned = np.rot90(image, turns)
    height, width = turned.shape
    kept = turned[int(height * share) :, int(width * share / 2) :]
    return np.ascontiguousarray(np.rot90(kept, -turns))


def _ghosting(image: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """Faint copies along the phase-encoding direction, as from pulsating vessels."""
    axis, offset = int(rng.integers(2)), rng.uniform(0.15, 0.35)
    step = int(image.shape[axis] * offset)
    ghosts = sum(np.roll(image, k * step, axis) for k in (-2, -1, 1, 2)) / 4
    return (1 - share) * image + share * ghosts * 2


CORRUPTIONS: dict[str, tuple[Callable[[np.ndarray, float, np.random.Generator], np.ndarray], tuple[float, ...]]] = {
    "noise": (_noise, (0.02, 0.04, 0.07, 0.11, 0.16)),  # standard deviation, share of the full scale
    "blur": (_blur, (0.002, 0.004, 0.007, 0.011, 0.016)),  # standard deviation, share of the longer edge
    "motion": (_motion, (0.005, 0.01, 0.02, 0.035, 0.05)),  # largest shift, share of the edge; turn, of 90 degrees
    "bias_field": (_bias_field, (0.2, 0.35, 0.5, 0.65, 0.8)),  # loss of brightness at the far side
    "contrast": (_contrast, (0.8, 0.65, 0.5, 0.35, 0.2)),  # of 1
    "gamma": (_gamma, (1.15, 1.35, 1.6, 2.0, 2.6)),  # exponent, or one by it
    "jpeg": (_jpeg, (60, 40, 25, 15, 8)),  # quality of 100
    "downsampling": (_downsampling, (256, 160, 112, 80, 56)),  # longer edge, pixels
    "rotation": (_rotation, (5, 10, 15, 25, 40)),  # degrees
    "crop": (_crop, (0.04, 0.08, 0.13, 0.19, 0.26)),  # share of the edge
    "ghosting": (_ghosting, (0.05, 0.1, 0.18, 0.28, 0.4)),  # strength of the copies
}
"""Name -> change of a (height, width) float32 image of 0 to 1, and what each strength means."""
