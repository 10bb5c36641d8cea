"""Simulated patients: an individual head, its lesion and the scanner that imaged it."""

from dataclasses import dataclass

import numpy as np

from brain_tumor.source.phantoms.anatomy import LEVELS
from brain_tumor.source.phantoms.fields import Points, Triple, Waves
from brain_tumor.source.phantoms.lesions import TUMOURS, Lesion

CLASSES = ("glioma", "meningioma", "no_tumor", "pituitary")
BEND = 0.03  # scale of the deviation from the symmetric head


@dataclass(frozen=True)
class Patient:
    """A head, its lesion and the properties of the scanner that imaged it.

    Attributes:
        levels: tissue name -> brightness of this patient's tissue.
        stretch: (3,) float32, size of the head along each axis, relative to the standard head.
        skull, scalp, fluid: thickness of the bone, of skin with fat, and of the CSF over the brain.
        fluid_size: size of the ventricles and cisterns, relative to the standard head.
        bend: three fields that make the head asymmetric.
        folds, mottle: fields of the cortical folds and of the fine texture within tissues.
        bias: the bias field, uneven brightness over the image.
        lesion: the tumour; in a patient without one it only determines where the slices lie.
        has_lesion: whether the patient has the tumour.
        shape: (height, width) of the files, in pixels.
        view: length of the longer edge of the field of view.
        noise, bias_size, curve: standard deviation of the noise, relative strength of the bias field and bend of the
            contrast curve; the signal of fat is about 0.8.
        first_level: position of slice 0, as a share of the range of slice positions.
    """

    levels: dict[str, float]
    stretch: np.ndarray
    skull: float
    scalp: float
    fluid: float
    fluid_size: float
    bend: tuple[Waves, Waves, Waves]
    folds: Waves
    mottle: Waves
    bias: Waves
    lesion: Lesion
    has_lesion: bool
    shape: tuple[int, int]
    view: float
    noise: float
    bias_size: float
    curve: float
    first_level: float


def simulate_patient(label: str, size: int, rng: np.random.Generator) -> Patient:
    """A random patient of a class, whose scans are about `size` pixels wide."""
    return Patient(
        levels={name: level + spread * rng.uniform(-1, 1) for name, (level, spread) in LEVELS.items()},
        stretch=rng.uniform(0.93, 1.05, 3).astype(np.float32),
        skull=rng.uniform(0.05, 0.085),
        scalp=rng.uniform(0.05, 0.10),
        fluid=rng.uniform(0.02, 0.05),
        fluid_size=rng.uniform(0.75, 1.3),
        bend=tuple(Waves.random(rng, count=2, frequency=0.8) for _ in range(3)),
        folds=Waves.random(rng, count=7, frequency=4.8),
        mottle=Waves.random(rng, count=5, frequency=4.0),
        bias=Waves.random(rng, count=3, frequency=0.35),
        lesion=TUMOURS[label if label in TUMOURS else rng.choice(sorted(TUMOURS))](rng),
        has_lesion=label in TUMOURS,
        shape=(round(size * rng.uniform(0.85, 1.15)), round(size * rng.uniform(0.85, 1.15))),
        view=rng.uniform(2.15, 2.6),
        noise=rng.uniform(0.012, 0.035),
        bias_size=rng.uniform(0.05, 0.18),
        curve=rng.uniform(-0.25, 0.6),
        first_level=rng.random(),
    )


def in_head(patient: Patient, raw: Points) -> Points:
    """Map points of the scanner to the standard head, which the head of the patient is a bent, stretched copy of."""
    bent = (c + BEND * bend(raw) for c, bend in zip((raw.x, raw.y, raw.z), patient.bend, strict=True))
    return Points(*(c * (1 / s) for c, s in zip(bent, patient.stretch, strict=True)))


def in_scanner(patient: Patient, point: Triple) -> Triple:
    """Approximate inverse of `in_head`, for one point."""
    raw = [float(s) * c for s, c in zip(patient.stretch, point, strict=True)]
    here = Points(*(np.full(1, c, np.float32) for c in raw))
    return tuple(c - BEND * float(bend(here)[0]) for c, bend in zip(raw, patient.bend, strict=True))
