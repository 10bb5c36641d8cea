"""Imaging physics: the plane of a slice, its signal, bias field, noise and contrast curve."""

import math

import numpy as np

from brain_tumor.source.phantoms.anatomy import GLAND, SKULL_BASE, VAULT
from brain_tumor.source.phantoms.fields import Points
from brain_tumor.source.phantoms.lesions import displaced, paint_lesion
from brain_tumor.source.phantoms.painting import cranial_cavity, paint_brain, paint_head, paint_structures
from brain_tumor.source.phantoms.patients import CLASSES, Patient, in_head, in_scanner, simulate_patient

PLANES = ("axial", "coronal", "sagittal")
_GOLDEN = 0.6180339887498949  # the fractional parts of its multiples keep a distance


def _slice_points(patient: Patient, plane: str, index: int, rng: np.random.Generator) -> Points:
    """The points of a slice through the lesion (or where it would be), slightly rotated, tilted and shifted.

    Golden-ratio steps keep the positions of a patient's slices apart, as the slice gap of a scanner does.
    """
    height, width = patient.shape
    step = patient.view * rng.uniform(0.97, 1.03) / max(patient.shape)
    half_turn = rng.uniform(-0.05, 0.05)  # tangent of half the angle: cosine and sine without libm
    cos, sin = (1 - half_turn**2) / (1 + half_turn**2), 2 * half_turn / (1 + half_turn**2)
    across = ((np.arange(width) - (width - 1) / 2) * step)[None, :]
    up = (((height - 1) / 2 - np.arange(height)) * step)[:, None]
    axis = {"axial": 2, "coronal": 1, "sagittal": 0}[plane]
    lesion = patient.lesion
    offset = lesion.half_axes[axis] * 1.4 * ((patient.first_level + index * _GOLDEN) % 1 - 0.5)
    if lesion.home == "cavity":  # towards the centre, because the skull cuts off the outer side
        offset = math.copysign(offset, VAULT[0][axis] - lesion.centre[axis])
    level = in_scanner(patient, lesion.centre)[axis] + offset
    tilt, shift = rng.uniform(-0.06, 0.06, 2), rng.uniform(-0.05, 0.05, 2)
    u, v = cos * across - sin * up, sin * across + cos * up
    w = level + tilt[0] * u + tilt[1] * v
    u, v = u + shift[0], v + shift[1]
    if plane != "axial":
        v -= 0.16  # the lower part of the view shows the neck
    x, y, z = {"axial": (u, v, w), "coronal": (u, w, v), "sagittal": (w, -u, v)}[plane]
    return Points(x.astype(np.float32), y.astype(np.float32), z.astype(np.float32))


def _render(patient: Patient, raw: Points) -> tuple[np.ndarray, np.ndarray]:
    """The signal of a slice without bias field and noise, float32 (fat is about 0.8), and the lesion mask, bool."""
    lesion = patient.lesion
    p = in_head(patient, raw)
    cerebrum, cavity = cranial_cavity(p)
    mottle = patient.mottle(p)
    image = np.full(p.x.shape, patient.levels["air"], np.float32)
    paint_head(image, p, cavity, mottle, patient)
    paint_brain(image, displaced(p, lesion) if patient.has_lesion else p, cerebrum, mottle, patient)
    paint_structures(image, p, SKULL_BASE, patient)
    if not (patient.has_lesion and lesion.home == "sella"):
        paint_structures(image, p, GLAND, patient)
    if not patient.has_lesion:
        return image, np.zeros(image.shape, bool)
    home = {"brain": cerebrum + patient.fluid, "cavity": cavity, "sella": np.full_like(cavity, -1)}[lesion.home]
    return image, paint_lesion(image, p, lesion, home, mottle)


def draw_scan(
    label: str, *, plane: str, patient: int, index: int, size: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Draw one slice of one simulated patient.

    Patient and slice have their own random streams: the same arguments give the same pixels, whatever was drawn
    before.

    Args:
        label: one of `CLASSES`.
        plane: one of `PLANES`.
        patient: number of the patient, at least 1; with `label`, `size` and `seed` it determines head and lesion.
        index: number of the slice in its patient, from 0; each has its own position and tilt.
        size: typical edge in pixels; height and width differ from it by up to 15 %, the same for all slices
            of a patient.
        seed: of the data set.

    Returns:
        The image, uint8 (height, width), and the mask of the tumour itself (without oedema), bool of the
        same shape and empty for `no_tumor`.

    Raises:
        ValueError: unknown label or plane.
    """
    if label not in CLASSES or plane not in PLANES:
        raise ValueError(f"expected a label of {CLASSES} and a plane of {PLANES}, got {label!r} and {plane!r}")
    person = simulate_patient(label, size, np.random.default_rng([seed, patient]))
    rng = np.random.default_rng([seed, patient, 1 + index])
    points = _slice_points(person, plane, index, rng)
    signal, mask = _render(person, points)
    signal *= (1 + person.bias_size * person.bias(points)) * rng.uniform(0.8, 1.15)
    # The magnitude of a complex signal with noise in both parts: Rician noise.
    noise = rng.standard_normal((2, *signal.shape), np.float32) * np.float32(person.noise)
    signal = np.sqrt(np.square(signal + noise[0]) + np.square(noise[1]))
    signal = signal * (1 + person.curve) / (1 + person.curve * signal)
    return np.clip(np.rint(signal * 255), 0, 255).astype(np.uint8), mask
