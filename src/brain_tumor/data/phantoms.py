"""Synthetic head scans with planted copies and planted wrong labels: data whose truth is known.

A simulated patient is a head in three dimensions: a table of ellipsoids, folded cortex, and in three of the
four classes one lesion. A scan is the plane through that head at one level, so slices of one patient agree
with each other in every plane. A patient without a tumour is sliced as if there were one: where a slice lies
tells little about its class.

Coordinates are in units of about 10 cm: x to the side (0 is the midline), y to the front, z to the top.

Pictures are drawn with additions, multiplications, divisions, square roots and roundings only, all of which
IEEE 754 defines to the last bit; smooth random fields are sums of parabolic waves rather than sines. No
`exp`, `sin` or `power` on arrays, no sums over arrays, no `GaussianBlur` and no `warpAffine`: their last bits
depend on the processor's instruction set. OpenCV writes the JPEGs and shrinks 8-bit copies (`INTER_AREA`), both
bit-exact; numpy's normal deviates call the C library only to accept or refuse a rare draw.
"""

import csv
import io
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, replace
from functools import cached_property
from pathlib import Path

import cv2
import numpy as np

from brain_tumor.errors import PipelineError
from brain_tumor.files import write_text
from brain_tumor.progress import bar

CLASSES = ("glioma", "meningioma", "no_tumor", "pituitary")
PLANES = ("axial", "coronal", "sagittal")
FOLDERS = ("Training", "Testing")
MIN_SIZE = 48
_QUALITY = 92  # of the JPEGs, except re-compressed copies

_Triple = tuple[float, float, float]
_SOFTNESS = 0.022  # width of a border between tissues
_GOLDEN = 0.6180339887498949  # its multiples, less their whole part, stay apart
_BEND = 0.03  # how far a patient strays from the symmetric head

_TURNS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "flip_left_right": np.fliplr,
    "flip_top_bottom": np.flipud,
    "rotate_90": lambda a: np.rot90(a, 1),
    "rotate_180": lambda a: np.rot90(a, 2),
    "rotate_270": lambda a: np.rot90(a, 3),
    "transpose": lambda a: a.T,
    "transverse": lambda a: np.rot90(a, 2).T,
}

# Tissue levels of a contrast-enhanced T1 scan, and how far a patient's own may lie from them.
_LEVELS = {
    "air": (0.02, 0.01),
    "bone": (0.09, 0.03),
    "csf": (0.15, 0.04),
    "fat": (0.80, 0.12),
    "gland": (0.68, 0.06),
    "grey": (0.41, 0.03),
    "marrow": (0.40, 0.14),
    "mucosa": (0.52, 0.08),
    "muscle": (0.33, 0.05),
    "vessel": (0.82, 0.10),
    "white": (0.55, 0.04),
}

# (tissue, centre, half axes), painted in this order; x is |x|, so a centre off the midline stands for a pair.
_FACE = (
    ("mucosa", (0.00, 0.66, -0.72), (0.17, 0.30, 0.30)),
    ("air", (0.07, 0.66, -0.72), (0.035, 0.26, 0.25)),
    ("air", (0.32, 0.56, -0.76), (0.15, 0.19, 0.19)),
    ("muscle", (0.00, 0.45, -1.14), (0.28, 0.40, 0.17)),
    ("air", (0.00, 0.16, -1.02), (0.11, 0.09, 0.36)),
    ("marrow", (0.00, -0.20, -1.10), (0.20, 0.16, 0.55)),
    ("csf", (0.00, -0.30, -0.95), (0.12, 0.10, 0.75)),
    ("fat", (0.33, 0.56, -0.42), (0.19, 0.30, 0.17)),
    ("muscle", (0.28, 0.46, -0.42), (0.045, 0.22, 0.04)),
    ("csf", (0.34, 0.69, -0.42), (0.13, 0.13, 0.13)),
    ("muscle", (0.34, 0.775, -0.42), (0.065, 0.03, 0.065)),
)
_DEEP = (
    ("white", (0.00, 0.02, 0.14), (0.20, 0.44, 0.22)),
    ("grey", (0.00, -0.02, 0.06), (0.10, 0.32, 0.17)),
    ("csf", (0.10, 0.02, 0.19), (0.075, 0.34, 0.085)),
    ("csf", (0.13, 0.27, 0.13), (0.065, 0.15, 0.10)),
    ("csf", (0.23, -0.35, 0.07), (0.075, 0.19, 0.10)),
    ("csf", (0.38, -0.10, -0.20), (0.03, 0.16, 0.03)),
    ("grey", (0.21, 0.22, 0.12), (0.06, 0.17, 0.10)),
    ("grey", (0.12, -0.08, 0.02), (0.105, 0.19, 0.12)),
    ("grey", (0.31, 0.08, -0.01), (0.075, 0.21, 0.12)),
    ("csf", (0.49, 0.08, -0.04), (0.025, 0.24, 0.09)),
    ("csf", (0.00, -0.03, -0.02), (0.022, 0.16, 0.10)),
    ("csf", (0.00, 0.10, -0.27), (0.17, 0.14, 0.08)),
    ("csf", (0.00, -0.27, -0.17), (0.16, 0.10, 0.07)),
    ("white", (0.07, -0.14, -0.20), (0.12, 0.12, 0.13)),
    ("grey", (0.00, -0.22, -0.22), (0.05, 0.05, 0.06)),
)
_HINDBRAIN = (
    ("csf", (0.00, -0.10, -0.47), (0.24, 0.20, 0.24)),
    ("white", (0.00, -0.12, -0.44), (0.18, 0.155, 0.17)),
    ("white", (0.00, -0.24, -0.80), (0.085, 0.085, 0.36)),
    ("csf", (0.00, -0.30, -0.45), (0.06, 0.05, 0.11)),
)
_SKULL_BASE = (
    ("bone", (0.00, 0.32, -0.57), (0.24, 0.27, 0.20)),
    ("air", (0.09, 0.36, -0.57), (0.085, 0.17, 0.13)),
    ("marrow", (0.00, 0.06, -0.58), (0.11, 0.07, 0.20)),
    ("bone", (0.40, -0.14, -0.47), (0.24, 0.08, 0.07)),
    ("vessel", (0.15, 0.17, -0.38), (0.07, 0.11, 0.06)),
    ("bone", (0.15, 0.17, -0.38), (0.035, 0.07, 0.035)),
    ("vessel", (0.00, -0.88, 0.02), (0.05, 0.06, 0.20)),
    ("vessel", (0.00, -0.62, 0.56), (0.045, 0.22, 0.06)),
    ("vessel", (0.45, -0.62, -0.22), (0.14, 0.07, 0.04)),
)
_GLAND = (("gland", (0.00, 0.17, -0.37), (0.07, 0.055, 0.045)), ("gland", (0.00, 0.13, -0.29), (0.016, 0.02, 0.06)))
_SELLA = (0.0, 0.17, -0.36)
_VAULT = ((0.0, -0.02, 0.12), (0.68, 0.86, 0.66))
_FLOOR = -0.28  # of the anterior fossa
_SOFT_TISSUE = (  # of the head below the brain: temples and nape, face, neck, nose
    ((0.00, -0.03, -0.16), (0.74, 0.92, 0.62)),
    ((0.00, 0.34, -0.70), (0.60, 0.60, 0.64)),
    ((0.00, -0.22, -1.40), (0.50, 0.54, 1.00)),
    ((0.00, 0.92, -0.74), (0.12, 0.17, 0.17)),
)


@dataclass(frozen=True)
class _Points:
    """Where the pixels of a slice lie in the head: three float32 arrays of one shape."""

    x: np.ndarray
    y: np.ndarray
    z: np.ndarray

    def folded(self) -> "_Points":
        """The same points with both sides of the head laid on one, so that one structure stands for a pair."""
        return _Points(np.abs(self.x), self.y, self.z)

    def scaled(self, factor: np.ndarray) -> "_Points":
        return _Points(self.x * factor, self.y * factor, self.z * factor)

    @cached_property
    def _extents(self) -> list[list[tuple[np.ndarray, np.ndarray]]]:
        """Lowest and highest x, y, z of every row, then of every column."""
        return [[(c.min(axis=a), c.max(axis=a)) for c in (self.x, self.y, self.z)] for a in (1, 0)]

    def window(self, centre: _Triple, reach: _Triple) -> tuple[slice, slice] | None:
        """The rows and columns that can come within `reach` of `centre`; None where the slice misses it."""
        found = []
        for extents in self._extents:
            near = np.ones(len(extents[0][0]), bool)
            for (low, high), c, r in zip(extents, centre, reach, strict=True):
                near &= (low <= c + r) & (high >= c - r)
            hits = np.flatnonzero(near)
            if not len(hits):
                return None
            found.append(slice(int(hits[0]), int(hits[-1]) + 1))
        return found[0], found[1]


@dataclass(frozen=True)
class _Waves:
    """A smooth random field over space, about in [-1, 1]: a sum of parabolic waves.

    Attributes:
        vectors: (n, 3), cycles per unit of length along each axis.
        phases: (n,), cycles.
    """

    vectors: np.ndarray
    phases: np.ndarray

    @classmethod
    def random(cls, rng: np.random.Generator, *, count: int, frequency: float) -> "_Waves":
        directions = rng.normal(size=(count, 3))
        lengths = np.sqrt(directions[:, :1] ** 2 + directions[:, 1:2] ** 2 + directions[:, 2:] ** 2)
        vectors = directions / lengths * frequency * rng.uniform(0.75, 1.3, (count, 1))
        return cls(vectors.astype(np.float32), rng.random(count, np.float32))

    def __call__(self, p: _Points) -> np.ndarray:
        total = np.zeros_like(p.x)
        t, part = np.empty_like(p.x), np.empty_like(p.x)  # reused: allocating would take most of the time
        for (a, b, c), phase in zip(self.vectors, self.phases, strict=True):
            np.multiply(p.x, a, out=t)
            t += np.multiply(p.y, b, out=part)
            t += np.multiply(p.z, c, out=part)
            t += phase
            t -= np.rint(t, out=part)
            np.abs(t, out=part)
            part -= 0.5
            total -= np.multiply(t, part, out=part)
        total *= 16 / math.sqrt(len(self.phases))
        return total


@dataclass(frozen=True)
class _Lesion:
    """One tumour.

    Attributes:
        centre, half_axes: of the ellipsoid that its surface deforms.
        home: what bounds it: "brain", the "cavity" of the skull, or "sella" for nothing.
        lobes: how far its surface strays from the ellipsoid, in units of length.
        layers: (margin, level) pairs from the outside in; each covers what lies deeper than `margin` outside
            the surface. The mass itself is the layer of margin 0.
        mottle: share by which its levels follow the patient's field of fine differences.
        tail: how far the dura enhances beyond the mass; 0 for none.
        push: share of its size by which it displaces the brain around it.
        waves: the field that deforms it.
    """

    centre: _Triple
    half_axes: _Triple
    home: str
    lobes: float
    layers: tuple[tuple[float, float], ...]
    mottle: float
    tail: float
    push: float
    waves: _Waves


def _glioma(rng: np.random.Generator) -> _Lesion:
    """Inside the white matter: an irregular ring around a dark core, oedema about it; some hardly take up contrast."""
    radius = rng.uniform(0.16, 0.32)
    side = rng.uniform(0.16, 0.42) * (1 if rng.random() < 0.5 else -1)
    centre = (side, rng.uniform(-0.45, 0.45), rng.uniform(-0.05, 0.42))
    enhancing = rng.random() < 0.85
    rim = rng.uniform(0.62, 0.95) if enhancing else rng.uniform(0.36, 0.46)
    core = rng.uniform(0.14, 0.32) if rng.random() < 0.8 else rim * 0.85
    oedema = rng.uniform(0.28, 0.40)
    layers = ((radius * rng.uniform(0.25, 0.8), oedema), (0.0, rim), (-radius * rng.uniform(0.25, 0.45), core))
    return _Lesion(
        centre,
        tuple(radius * s for s in rng.uniform(0.8, 1.25, 3).tolist()),
        home="brain",
        lobes=radius * rng.uniform(0.12, 0.25),
        layers=layers,
        mottle=rng.uniform(0.10, 0.25),
        tail=0.0,
        push=rng.uniform(0.1, 0.5),
        waves=_Waves.random(rng, count=6, frequency=0.45 / radius),
    )


def _meningioma(rng: np.random.Generator) -> _Lesion:
    """On the dura: smooth, even, bright, its broad base on the skull, a cleft of fluid towards the brain."""
    radius = rng.uniform(0.14, 0.29)
    if rng.random() < 0.25:  # on the floor of the anterior fossa or the sphenoid wing
        surface = (rng.uniform(-0.42, 0.42), rng.uniform(0.32, 0.55), -0.28)
        inwards = (0.0, 0.0, 1.0)
    else:  # convexity
        up, turn = rng.uniform(-0.1, 0.75), rng.normal(size=2).tolist()
        flat = math.sqrt((1 - up**2) / (turn[0] ** 2 + turn[1] ** 2))
        direction = (flat * turn[0], flat * turn[1], up)
        surface = tuple(_VAULT[0][i] + _VAULT[1][i] * direction[i] for i in range(3))
        inwards = tuple(-d for d in direction)
    depth = radius * rng.uniform(0.25, 0.6)
    return _Lesion(
        tuple(surface[i] + depth * inwards[i] for i in range(3)),
        tuple(radius * s for s in rng.uniform(0.85, 1.2, 3).tolist()),
        home="cavity",
        lobes=radius * rng.uniform(0.0, 0.06),
        layers=((radius * rng.uniform(0.05, 0.15), rng.uniform(0.15, 0.35)), (0.0, rng.uniform(0.64, 0.95))),
        mottle=rng.uniform(0.0, 0.05),
        tail=radius * rng.uniform(0.0, 0.5),
        push=rng.uniform(0.2, 0.5),
        waves=_Waves.random(rng, count=4, frequency=0.4 / radius),
    )


def _pituitary(rng: np.random.Generator) -> _Lesion:
    """At the sella, on the midline: fairly even, growing upwards; some are cystic."""
    width = rng.uniform(0.09, 0.19)
    height = width * rng.uniform(0.9, 1.5)
    level = rng.uniform(0.60, 0.90)
    cyst = ((-width * rng.uniform(0.3, 0.55), rng.uniform(0.2, 0.4)),) if rng.random() < 0.25 else ()
    x, y, z = _SELLA
    return _Lesion(
        (x + rng.uniform(-0.03, 0.03), y + rng.uniform(-0.02, 0.02), z - 0.05 + 0.6 * (height - 0.08)),
        (width, width * rng.uniform(0.8, 1.1), height),
        home="sella",
        lobes=width * rng.uniform(0.03, 0.12),
        layers=((width * 0.15, 0.2), (0.0, level), *cyst),
        mottle=rng.uniform(0.02, 0.10),
        tail=0.0,
        push=rng.uniform(0.1, 0.5),
        waves=_Waves.random(rng, count=4, frequency=0.4 / width),
    )


_TUMOURS = {"glioma": _glioma, "meningioma": _meningioma, "pituitary": _pituitary}


@dataclass(frozen=True)
class _Patient:
    """A head, its lesion and the habits of the scanner it lay in.

    Attributes:
        levels: tissue name -> brightness of this patient's tissue.
        stretch: (3,), size of the head along each axis against the standard head.
        skull, scalp, fluid: thickness of bone, of skin with fat, of the fluid over the brain.
        fluid_size: size of ventricles and cisterns against the standard head.
        bend: three fields that make the head asymmetric.
        folds, mottle: fields of the cortex and of the fine differences within tissues.
        bias: field of the uneven brightness.
        lesion: the tumour; in a patient without one it only says where the slices lie.
        has_lesion: whether the tumour is there.
        shape: (height, width) of the files, in pixels.
        view: length of the longer edge of the field of view.
        noise, bias_size, curve: of the signal, where fat is about 0.8.
        first_level: where slice 0 lies, as a share of the range of levels.
    """

    levels: dict[str, float]
    stretch: np.ndarray
    skull: float
    scalp: float
    fluid: float
    fluid_size: float
    bend: tuple[_Waves, _Waves, _Waves]
    folds: _Waves
    mottle: _Waves
    bias: _Waves
    lesion: _Lesion
    has_lesion: bool
    shape: tuple[int, int]
    view: float
    noise: float
    bias_size: float
    curve: float
    first_level: float


def _simulate_patient(label: str, size: int, rng: np.random.Generator) -> _Patient:
    return _Patient(
        levels={name: level + spread * rng.uniform(-1, 1) for name, (level, spread) in _LEVELS.items()},
        stretch=rng.uniform(0.93, 1.05, 3).astype(np.float32),
        skull=rng.uniform(0.05, 0.085),
        scalp=rng.uniform(0.05, 0.10),
        fluid=rng.uniform(0.02, 0.05),
        fluid_size=rng.uniform(0.75, 1.3),
        bend=tuple(_Waves.random(rng, count=2, frequency=0.8) for _ in range(3)),
        folds=_Waves.random(rng, count=7, frequency=4.8),
        mottle=_Waves.random(rng, count=5, frequency=4.0),
        bias=_Waves.random(rng, count=3, frequency=0.35),
        lesion=_TUMOURS[label if label in _TUMOURS else rng.choice(sorted(_TUMOURS))](rng),
        has_lesion=label in _TUMOURS,
        shape=(round(size * rng.uniform(0.85, 1.15)), round(size * rng.uniform(0.85, 1.15))),
        view=rng.uniform(2.15, 2.6),
        noise=rng.uniform(0.012, 0.035),
        bias_size=rng.uniform(0.05, 0.18),
        curve=rng.uniform(-0.25, 0.6),
        first_level=rng.random(),
    )


def _in_head(patient: _Patient, raw: _Points) -> _Points:
    """Points of the scanner as points of the standard head, which this patient's is a bent and stretched copy of."""
    bent = (c + _BEND * bend(raw) for c, bend in zip((raw.x, raw.y, raw.z), patient.bend, strict=True))
    return _Points(*(c * (1 / s) for c, s in zip(bent, patient.stretch, strict=True)))


def _in_scanner(patient: _Patient, point: _Triple) -> _Triple:
    """Close to the inverse of `_in_head`, for one point."""
    raw = [float(s) * c for s, c in zip(patient.stretch, point, strict=True)]
    here = _Points(*(np.full(1, c, np.float32) for c in raw))
    return tuple(c - _BEND * float(bend(here)[0]) for c, bend in zip(raw, patient.bend, strict=True))


def _slice_points(patient: _Patient, plane: str, index: int, rng: np.random.Generator) -> _Points:
    """The points of a slice through the lesion (or where it would be), slightly turned, tilted and shifted.

    Golden-ratio steps keep the levels of a patient's slices apart, as the slice gap of a scanner does.
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
    if lesion.home == "cavity":  # towards the middle, since the skull cuts off the outer side
        offset = math.copysign(offset, _VAULT[0][axis] - lesion.centre[axis])
    level = _in_scanner(patient, lesion.centre)[axis] + offset
    tilt, shift = rng.uniform(-0.06, 0.06, 2), rng.uniform(-0.05, 0.05, 2)
    u, v = cos * across - sin * up, sin * across + cos * up
    w = level + tilt[0] * u + tilt[1] * v
    u, v = u + shift[0], v + shift[1]
    if plane != "axial":
        v -= 0.16  # the neck takes the lower part of the view
    x, y, z = {"axial": (u, v, w), "coronal": (u, w, v), "sagittal": (w, -u, v)}[plane]
    return _Points(x.astype(np.float32), y.astype(np.float32), z.astype(np.float32))


def _ellipsoid(p: _Points, centre: _Triple, half_axes: _Triple) -> np.ndarray:
    """About the signed distance of each point to an ellipsoid, negative inside."""
    total = np.square((p.x - np.float32(centre[0])) * np.float32(1 / half_axes[0]))
    total += np.square((p.y - np.float32(centre[1])) * np.float32(1 / half_axes[1]))
    total += np.square((p.z - np.float32(centre[2])) * np.float32(1 / half_axes[2]))
    np.sqrt(total, out=total)
    total -= 1
    total *= np.float32(3 / (1 / half_axes[0] + 1 / half_axes[1] + 1 / half_axes[2]))
    return total


def _ramp(value: np.ndarray) -> np.ndarray:
    return np.clip(value, 0, 1)


def _cover(distance: np.ndarray, softness: float = _SOFTNESS) -> np.ndarray:
    """Share of each pixel that lies inside: 1 within, 0 outside, a ramp of width `softness` on the border."""
    return _ramp(0.5 - distance * (1 / softness))


def _paint(image: np.ndarray, cover: np.ndarray, level: float | np.ndarray) -> None:
    """Blend `level` into `image`, in place, by `cover`."""
    image += cover * (level - image)


def _paint_structures(image: np.ndarray, p: _Points, structures: tuple, patient: _Patient) -> None:
    """Paint a table of ellipsoids, each on both sides of the midline."""
    p = p.folded()
    for tissue, centre, half_axes in structures:
        if tissue == "csf":
            half_axes = tuple(h * patient.fluid_size for h in half_axes)
        window = p.window(centre, tuple(h + _SOFTNESS for h in half_axes))
        if window:
            near = _Points(p.x[window], p.y[window], p.z[window])
            _paint(image[window], _cover(_ellipsoid(near, centre, half_axes)), patient.levels[tissue])


def _displaced(p: _Points, lesion: _Lesion) -> _Points:
    """Where the tissue now at `p` lay before the lesion pushed it aside."""
    away = [c - np.float32(m) for c, m in zip((p.x, p.y, p.z), lesion.centre, strict=True)]
    distance = np.square(away[0]) + np.square(away[1]) + np.square(away[2])
    pull = lesion.push / np.square(1 + distance * (1 / (1.5 * max(lesion.half_axes)) ** 2))
    return _Points(p.x - away[0] * pull, p.y - away[1] * pull, p.z - away[2] * pull)


def _cranial_cavity(p: _Points) -> tuple[np.ndarray, np.ndarray]:
    """Signed distances to the room of the cerebrum and to the whole cavity: vault, temporal and posterior fossae."""
    vault = np.maximum(_ellipsoid(p, *_VAULT), _FLOOR - p.z)
    cerebrum = np.minimum(vault, _ellipsoid(p.folded(), (0.40, 0.02, -0.22), (0.25, 0.40, 0.24)))
    return cerebrum, np.minimum(cerebrum, _ellipsoid(p, (0.0, -0.46, -0.38), (0.55, 0.38, 0.36)))


def _paint_head(image: np.ndarray, p: _Points, cavity: np.ndarray, mottle: np.ndarray, patient: _Patient) -> None:
    """Skin, fat, muscle, face and skull; the cavity is left full of fluid, with the dura around it."""
    levels, skull, scalp = patient.levels, patient.skull, patient.scalp
    surface = cavity - (skull + scalp)
    for centre, half_axes in _SOFT_TISSUE:
        surface = np.minimum(surface, _ellipsoid(p, centre, half_axes))
    _paint(image, _cover(surface), levels["fat"])
    _paint(image, _cover(surface + 0.75 * scalp, 0.03), levels["muscle"] * (1 + 0.12 * mottle))
    _paint_structures(image, p, _FACE, patient)
    _paint(image, _cover(cavity - skull), levels["bone"])
    _paint(image, _cover(np.abs(cavity - 0.5 * skull) - 0.18 * skull), levels["marrow"])
    _paint(image, _cover(cavity), levels["csf"])
    _paint(image, _cover(np.abs(cavity) - 0.004, 0.012), levels["grey"])


def _paint_brain(image: np.ndarray, p: _Points, cerebrum: np.ndarray, mottle: np.ndarray, patient: _Patient) -> None:
    """Folded cortex over white matter, deep nuclei and ventricles, then cerebellum and brainstem."""
    levels = patient.levels
    brain = cerebrum + patient.fluid
    fissure = np.abs(p.x)
    depth = np.minimum(-brain, fissure - 0.008)
    # Stretching the middle turns the folds so that they run in from the surface.
    folds = np.abs(patient.folds(p.scaled(1 / (0.35 + 0.65 * _ramp(1 - depth)))))
    groove = _ramp(1 - depth * (1 / 0.24))
    cortex = np.maximum(_cover(depth - 0.045, 0.03), _ramp((groove * 0.75 - folds) * 4 + 0.5))
    tissue = levels["white"] + cortex * (levels["grey"] - levels["white"])
    _paint(tissue, _ramp((groove * 0.17 - folds) * 7 + 0.1), levels["csf"])
    tissue *= 1 + 0.03 * mottle
    _paint(tissue, _cover(fissure - 0.006, 0.016), levels["csf"])
    _paint_structures(tissue, p, _DEEP, patient)
    _paint(image, _cover(brain), tissue)

    cerebellum = _ellipsoid(p, (0.0, -0.50, -0.42), (0.48, 0.31, 0.26))
    ring = np.sqrt(np.square(p.y + 0.25) + np.square(p.z + 0.4) + 0.3 * np.square(p.x)) * 11 + 0.12 * mottle
    leaf = np.abs(ring - np.rint(ring)) * 4 - 1
    outer = _ramp(1 + cerebellum * (1 / 0.2))
    _paint(image, _cover(cerebellum - 0.03), levels["csf"])
    _paint(image, _cover(cerebellum), levels["white"] - outer * (levels["white"] - levels["grey"] + 0.15 * _ramp(leaf)))
    _paint_structures(image, p, _HINDBRAIN, patient)


def _paint_lesion(image: np.ndarray, p: _Points, lesion: _Lesion, home: np.ndarray, mottle: np.ndarray) -> np.ndarray:
    """Paint the lesion in place, kept to where `home` (a signed distance) is negative; return its mask."""
    surface = _ellipsoid(p, lesion.centre, lesion.half_axes) + lesion.lobes * lesion.waves(p)
    bounds = _cover(home)
    if lesion.tail:
        tail = np.maximum(surface - lesion.tail, -home - 0.03)
        _paint(image, _cover(tail) * bounds, lesion.layers[-1][1])
    for margin, level in lesion.layers:
        reach = margin * (1 + 0.9 * mottle) if margin > 0 else margin
        _paint(image, _cover(surface - reach, 0.03) * bounds, level * (1 + lesion.mottle * mottle))
    return _cover(surface) * bounds > 0.5


def _render(patient: _Patient, raw: _Points) -> tuple[np.ndarray, np.ndarray]:
    """The signal of a slice, before the scanner's own marks: float32 (fat about 0.8), and the lesion mask."""
    lesion = patient.lesion
    p = _in_head(patient, raw)
    cerebrum, cavity = _cranial_cavity(p)
    mottle = patient.mottle(p)
    image = np.full(p.x.shape, patient.levels["air"], np.float32)
    _paint_head(image, p, cavity, mottle, patient)
    _paint_brain(image, _displaced(p, lesion) if patient.has_lesion else p, cerebrum, mottle, patient)
    _paint_structures(image, p, _SKULL_BASE, patient)
    if not (patient.has_lesion and lesion.home == "sella"):
        _paint_structures(image, p, _GLAND, patient)
    if not patient.has_lesion:
        return image, np.zeros(image.shape, bool)
    home = {"brain": cerebrum + patient.fluid, "cavity": cavity, "sella": np.full_like(cavity, -1)}[lesion.home]
    return image, _paint_lesion(image, p, lesion, home, mottle)


def draw_scan(
    label: str, *, plane: str, patient: int, index: int, size: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Draw one slice of one simulated patient.

    Patient and slice have random streams of their own: the same arguments give the same pixels, whatever
    else is drawn before.

    Args:
        label: one of `CLASSES`.
        plane: one of `PLANES`.
        patient: number of the patient, at least 1; same number and label, same head and lesion.
        index: number of the slice in its patient, from 0; another number is another level and position.
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
    person = _simulate_patient(label, size, np.random.default_rng([seed, patient]))
    rng = np.random.default_rng([seed, patient, 1 + index])
    points = _slice_points(person, plane, index, rng)
    signal, mask = _render(person, points)
    signal *= (1 + person.bias_size * person.bias(points)) * rng.uniform(0.8, 1.15)
    # The magnitude of a complex signal with noise in both parts: Rician.
    noise = rng.standard_normal((2, *signal.shape), np.float32) * np.float32(person.noise)
    signal = np.sqrt(np.square(signal + noise[0]) + np.square(noise[1]))
    signal = signal * (1 + person.curve) / (1 + person.curve * signal)
    return np.clip(np.rint(signal * 255), 0, 255).astype(np.uint8), mask


@dataclass
class _Image:
    """A row of the truth table; the fields are its columns."""

    path: str
    true_label: str
    folder_label: str
    patient: str
    plane: str
    slice: int
    copy_of: str = ""
    transform: str = ""
    wrong_label: int = 0
    lesion_x: int | str = ""
    lesion_y: int | str = ""
    lesion_w: int | str = ""
    lesion_h: int | str = ""


def _jpeg(image: np.ndarray, quality: int) -> bytes:
    return cv2.imencode(".jpg", np.ascontiguousarray(image), (cv2.IMWRITE_JPEG_QUALITY, quality))[1].tobytes()


def _plan(
    *, patients: int, slices: int, test_share: float, copies: float, wrong_labels: float, rng: np.random.Generator
) -> tuple[list[_Image], list[tuple[_Image, _Image]]]:
    """Decide every file before anything is drawn.

    Returns:
        The drawn images, and (copy, source) pairs; boxes and the transforms of mirrored copies are still open.
    """
    in_test = {}  # patient number, dealt to the classes in turn -> whether it goes to Testing
    for offset in range(len(CLASSES)):
        numbers = np.arange(patients) * len(CLASSES) + offset + 1
        count = min(max(round(patients * test_share), 1), patients - 1) if test_share else 0
        held_out = set(rng.choice(numbers, count, replace=False).tolist())
        in_test.update({number: number in held_out for number in numbers.tolist()})

    drawn = []
    for number in sorted(in_test):
        label, folder = CLASSES[(number - 1) % len(CLASSES)], FOLDERS[in_test[number]]
        for index in range(int(rng.integers(slices - slices // 2, slices + slices // 2, endpoint=True))):
            # Planes in turn: between two slices of one plane lie three steps of their level.
            patient, plane = f"p{number:04d}", PLANES[(number + index) % len(PLANES)]
            drawn.append(_Image(f"{folder}/{label}/{patient}_s{index:02d}.jpg", label, label, patient, plane, index))

    kinds = ("exact", "mirrored", "recompressed")
    folders = FOLDERS if test_share else FOLDERS[:1]
    sources = [image for image in drawn if image.path.startswith(FOLDERS[0])]
    copied = []
    for number in range(round(copies * len(drawn))):
        source = sources[int(rng.integers(len(sources)))]
        kind, folder = kinds[number % len(kinds)], folders[number // len(kinds) % len(folders)]
        path = f"{folder}/{source.true_label}/copy_{number + 1:04d}.jpg"
        copied.append((replace(source, path=path, transform=kind), source))

    images = drawn + [copy for copy, _ in copied]
    for place in rng.choice(len(images), round(wrong_labels * len(images)), replace=False).tolist():
        image = images[place]
        image.folder_label = str(rng.choice([label for label in CLASSES if label != image.true_label]))
        image.wrong_label = 1
        folder, _, name = image.path.split("/")
        image.path = f"{folder}/{image.folder_label}/{name}"
    for copy, source in copied:
        copy.copy_of = source.path
    return drawn, copied


def _copy(content: bytes, image: _Image, rng: np.random.Generator) -> tuple[bytes, _Image]:
    """Apply the kind of copying that `image.transform` names to a JPEG, and to the lesion box of its source."""
    if image.transform == "exact":
        return content, image
    pixels = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_GRAYSCALE)
    if image.transform == "recompressed":
        height, width = (round(edge * rng.uniform(0.90, 0.97)) for edge in pixels.shape)
        quality = int(rng.integers(40, 70))

        def change(a: np.ndarray) -> np.ndarray:
            return cv2.resize(a, (width, height), interpolation=cv2.INTER_AREA)
    else:
        name = str(rng.choice(sorted(_TURNS)))
        image, change, quality = replace(image, transform=name), _TURNS[name], _QUALITY
    if image.lesion_x != "":
        region = np.zeros_like(pixels)
        region[image.lesion_y : image.lesion_y + image.lesion_h, image.lesion_x : image.lesion_x + image.lesion_w] = 255
        image = _with_box(image, change(region) > 127)
    return _jpeg(change(pixels), quality), image


def _with_box(image: _Image, mask: np.ndarray) -> _Image:
    """The row with the bounding box of the true pixels, if there are any."""
    rows, columns = np.flatnonzero(mask.any(axis=1)).tolist(), np.flatnonzero(mask.any(axis=0)).tolist()
    if not rows:
        return image
    x, y = columns[0], rows[0]
    return replace(image, lesion_x=x, lesion_y=y, lesion_w=columns[-1] - x + 1, lesion_h=rows[-1] - y + 1)


def draw_data_set(
    root: Path,
    *,
    patients: int,
    slices: int,
    size: int,
    test_share: float,
    copies: float,
    wrong_labels: float,
    seed: int,
) -> None:
    """Write an image-folder data set of simulated patients, and the truth about it.

    Files are greyscale JPEGs `<root>/<Training|Testing>/<class>/<name>`. Drawn images are named
    `p<patient>_s<slice>.jpg`, planted copies `copy_<number>.jpg`. All drawn images of a patient stand in one
    folder; copies are made of Training images and stand half in Training and half in Testing, a third each
    exact, mirrored and re-compressed. Wrong labels fall on drawn images and on copies alike, so copies of one
    image can contradict each other. The same arguments give the same bytes.

    `<root>/truth.csv` has a row per image, sorted by path:

        path          relative to the root
        true_label    class that was drawn
        folder_label  class folder the file stands in
        patient       simulated patient, also for copies
        plane         axial, coronal or sagittal
        slice         number of the slice in its patient, from 0
        copy_of       path of the image it was copied from; empty for drawn images
        transform     empty for drawn images; exact, recompressed (lower quality, 3 to 10 % smaller) or what was
                      done to the source: flip_left_right, flip_top_bottom, rotate_90, rotate_180, rotate_270
                      (counter-clockwise), transpose, transverse (the other diagonal)
        wrong_label   1 where folder_label is not true_label, else 0
        lesion_x, lesion_y, lesion_w, lesion_h
                      box of the tumour in pixels of this file, from the top left corner; empty without a tumour

    Args:
        root: existing, empty folder.
        patients: per class.
        slices: mean number per patient.
        size: edge of a typical file, in pixels.
        test_share: share of the patients whose images go to Testing; 0 for no Testing folder, else at least
            one patient per class on either side.
        copies: planted copies per drawn image.
        wrong_labels: share of all images that stand in another class's folder.
        seed: at least 0.

    Raises:
        PipelineError: an argument out of range, or a folder that is not empty.
    """
    for name, value, low, high in (
        ("patients", patients, 2 if test_share else 1, math.inf),
        ("slices", slices, 1, math.inf),
        ("size", size, MIN_SIZE, math.inf),
        ("test_share", test_share, 0, 0.9),
        ("copies", copies, 0, 1),
        ("wrong_labels", wrong_labels, 0, 1),
        ("seed", seed, 0, math.inf),
    ):
        if not low <= value <= high:
            limits = f"at least {low}" if high == math.inf else f"from {low} to {high}"
            raise PipelineError(f"expected {name} of the phantoms to be {limits}, got {value}: set it so")
    if any(root.iterdir()):
        raise PipelineError(f"expected an empty folder for the phantoms, found files in {root}: empty it")

    rng = np.random.default_rng([seed, 0])  # patients count from 1, so this stream is no patient's
    drawn, copied = _plan(
        patients=patients, slices=slices, test_share=test_share, copies=copies, wrong_labels=wrong_labels, rng=rng
    )

    def write(image: _Image, content: bytes) -> None:
        target = root / image.path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
        rows[image.path] = image

    rows: dict[str, _Image] = {}
    for image in bar(drawn, desc="draw", unit="image"):
        pixels, mask = draw_scan(
            image.true_label, plane=image.plane, patient=int(image.patient[1:]), index=image.slice, size=size, seed=seed
        )
        write(_with_box(image, mask), _jpeg(pixels, _QUALITY))
    for image, source in copied:
        truth = rows[source.path]
        box = {name: getattr(truth, name) for name in ("lesion_x", "lesion_y", "lesion_w", "lesion_h")}
        content, image = _copy((root / source.path).read_bytes(), replace(image, **box), rng)
        write(image, content)

    table = io.StringIO()
    writer = csv.DictWriter(table, [field.name for field in fields(_Image)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(rows[path]) for path in sorted(rows))
    write_text(root / "truth.csv", table.getvalue())
