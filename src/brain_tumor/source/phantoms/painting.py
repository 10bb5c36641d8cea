"""Painting a head into a slice: skin, face and skull, then brain and ventricles."""

import numpy as np

from brain_tumor.source.phantoms.anatomy import DEEP, FACE, FLOOR, HINDBRAIN, SOFT_TISSUE, VAULT
from brain_tumor.source.phantoms.fields import SOFTNESS, Points, cover, ellipsoid, paint, ramp
from brain_tumor.source.phantoms.patients import Patient


def paint_structures(image: np.ndarray, p: Points, structures: tuple, patient: Patient) -> None:
    """Paint a table of ellipsoids, each on both sides of the midline."""
    p = p.folded()
    for tissue, centre, half_axes in structures:
        if tissue == "csf":
            half_axes = tuple(h * patient.fluid_size for h in half_axes)
        window = p.window(centre, tuple(h + SOFTNESS for h in half_axes))
        if window:
            near = Points(p.x[window], p.y[window], p.z[window])
            paint(image[window], cover(ellipsoid(near, centre, half_axes)), patient.levels[tissue])


def cranial_cavity(p: Points) -> tuple[np.ndarray, np.ndarray]:
    """Signed distances to the space of the cerebrum (vault, middle fossae) and to the cavity (also posterior fossa)."""
    vault = np.maximum(ellipsoid(p, *VAULT), FLOOR - p.z)
    cerebrum = np.minimum(vault, ellipsoid(p.folded(), (0.40, 0.02, -0.22), (0.25, 0.40, 0.24)))
    return cerebrum, np.minimum(cerebrum, ellipsoid(p, (0.0, -0.46, -0.38), (0.55, 0.38, 0.36)))


def paint_head(image: np.ndarray, p: Points, cavity: np.ndarray, mottle: np.ndarray, patient: Patient) -> None:
    """Paint skin, fat, muscle, face and skull; the cavity is filled with CSF and lined with dura."""
    levels, skull, scalp = patient.levels, patient.skull, patient.scalp
    surface = cavity - (skull + scalp)
    for centre, half_axes in SOFT_TISSUE:
        surface = np.minimum(surface, ellipsoid(p, centre, half_axes))
    paint(image, cover(surface), levels["fat"])
    paint(image, cover(surface + 0.75 * scalp, 0.03), levels["muscle"] * (1 + 0.12 * mottle))
    paint_structures(image, p, FACE, patient)
    paint(image, cover(cavity - skull), levels["bone"])
    paint(image, cover(np.abs(cavity - 0.5 * skull) - 0.18 * skull), levels["marrow"])
    paint(image, cover(cavity), levels["csf"])
    paint(image, cover(np.abs(cavity) - 0.004, 0.012), levels["grey"])


def paint_brain(image: np.ndarray, p: Points, cerebrum: np.ndarray, mottle: np.ndarray, patient: Patient) -> None:
    """Paint the folded cortex over white matter, deep nuclei and ventricles, then cerebellum and brainstem."""
    levels = patient.levels
    brain = cerebrum + patient.fluid
    fissure = np.abs(p.x)
    depth = np.minimum(-brain, fissure - 0.008)
    # Stretching the centre turns the folds, so that they run inwards from the surface.
    folds = np.abs(patient.folds(p.scaled(1 / (0.35 + 0.65 * ramp(1 - depth)))))
    groove = ramp(1 - depth * (1 / 0.24))
    cortex = np.maximum(cover(depth - 0.045, 0.03), ramp((groove * 0.75 - folds) * 4 + 0.5))
    tissue = levels["white"] + cortex * (levels["grey"] - levels["white"])
    paint(tissue, ramp((groove * 0.17 - folds) * 7 + 0.1), levels["csf"])
    tissue *= 1 + 0.03 * mottle
    paint(tissue, cover(fissure - 0.006, 0.016), levels["csf"])
    paint_structures(tissue, p, DEEP, patient)
    paint(image, cover(brain), tissue)

    cerebellum = ellipsoid(p, (0.0, -0.50, -0.42), (0.48, 0.31, 0.26))
    ring = np.sqrt(np.square(p.y + 0.25) + np.square(p.z + 0.4) + 0.3 * np.square(p.x)) * 11 + 0.12 * mottle
    leaf = np.abs(ring - np.rint(ring)) * 4 - 1
    outer = ramp(1 + cerebellum * (1 / 0.2))
    paint(image, cover(cerebellum - 0.03), levels["csf"])
    paint(image, cover(cerebellum), levels["white"] - outer * (levels["white"] - levels["grey"] + 0.15 * ramp(leaf)))
    paint_structures(image, p, HINDBRAIN, patient)
