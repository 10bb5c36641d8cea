"""Simulated tumours: their location, their shape and the brightness of their layers."""

import math
from dataclasses import dataclass

import numpy as np

from brain_tumor.source.phantoms.anatomy import SELLA, VAULT
from brain_tumor.source.phantoms.fields import Points, Triple, Waves, cover, ellipsoid, paint


@dataclass(frozen=True)
class Lesion:
    """One tumour.

    Attributes:
        centre, half_axes: of the ellipsoid that its surface deforms.
        home: what confines it: "brain", the "cavity" of the skull, or "sella": nothing.
        lobes: scale of the deviation of its surface from the ellipsoid, in units of length.
        layers: (margin, level) pairs, painted from the outside inwards; a layer reaches to `margin` outside the
            surface (negative: inside). The layer of margin 0 is the mass itself.
        mottle: relative strength of the patient's field of fine texture in its levels.
        tail: how far the dura enhances beyond the mass (dural tail); 0: not at all.
        push: displacement of the tissue near its centre, relative to the distance from there; it fades outwards.
        waves: the field that deforms its surface.
    """

    centre: Triple
    half_axes: Triple
    home: str
    lobes: float
    layers: tuple[tuple[float, float], ...]
    mottle: float
    tail: float
    push: float
    waves: Waves


def _glioma(rng: np.random.Generator) -> Lesion:
    """In the white matter: an irregular ring around a dark core, with oedema around it; some hardly enhance."""
    radius = rng.uniform(0.16, 0.32)
    side = rng.uniform(0.16, 0.42) * (1 if rng.random() < 0.5 else -1)
    centre = (side, rng.uniform(-0.45, 0.45), rng.uniform(-0.05, 0.42))
    enhancing = rng.random() < 0.85
    rim = rng.uniform(0.62, 0.95) if enhancing else rng.uniform(0.36, 0.46)
    core = rng.uniform(0.14, 0.32) if rng.random() < 0.8 else rim * 0.85
    oedema = rng.uniform(0.28, 0.40)
    layers = ((radius * rng.uniform(0.25, 0.8), oedema), (0.0, rim), (-radius * rng.uniform(0.25, 0.45), core))
    return Lesion(
        centre,
        tuple(radius * s for s in rng.uniform(0.8, 1.25, 3).tolist()),
        home="brain",
        lobes=radius * rng.uniform(0.12, 0.25),
        layers=layers,
        mottle=rng.uniform(0.10, 0.25),
        tail=0.0,
        push=rng.uniform(0.1, 0.5),
        waves=Waves.random(rng, count=6, frequency=0.45 / radius),
    )


def _meningioma(rng: np.random.Generator) -> Lesion:
    """On the dura: smooth, homogeneous and bright, broad-based on the skull, with a cleft of CSF towards the brain."""
    radius = rng.uniform(0.14, 0.29)
    if rng.random() < 0.25:  # on the floor of the anterior fossa or the sphenoid wing
        surface = (rng.uniform(-0.42, 0.42), rng.uniform(0.32, 0.55), -0.28)
        inwards = (0.0, 0.0, 1.0)
    else:  # convexity
        up, turn = rng.uniform(-0.1, 0.75), rng.normal(size=2).tolist()
        flat = math.sqrt((1 - up**2) / (turn[0] ** 2 + turn[1] ** 2))
        direction = (flat * turn[0], flat * turn[1], up)
        surface = tuple(VAULT[0][i] + VAULT[1][i] * direction[i] for i in range(3))
        inwards = tuple(-d for d in direction)
    depth = radius * rng.uniform(0.25, 0.6)
    return Lesion(
        tuple(surface[i] + depth * inwards[i] for i in range(3)),
        tuple(radius * s for s in rng.uniform(0.85, 1.2, 3).tolist()),
        home="cavity",
        lobes=radius * rng.uniform(0.0, 0.06),
        layers=((radius * rng.uniform(0.05, 0.15), rng.uniform(0.15, 0.35)), (0.0, rng.uniform(0.64, 0.95))),
        mottle=rng.uniform(0.0, 0.05),
        tail=radius * rng.uniform(0.0, 0.5),
        push=rng.uniform(0.2, 0.5),
        waves=Waves.random(rng, count=4, frequency=0.4 / radius),
    )


def _pituitary(rng: np.random.Generator) -> Lesion:
    """In the sella, on the midline: fairly homogeneous, growing upwards; some are cystic."""
    width = rng.uniform(0.09, 0.19)
    height = width * rng.uniform(0.9, 1.5)
    level = rng.uniform(0.60, 0.90)
    cyst = ((-width * rng.uniform(0.3, 0.55), rng.uniform(0.2, 0.4)),) if rng.random() < 0.25 else ()
    x, y, z = SELLA
    return Lesion(
        (x + rng.uniform(-0.03, 0.03), y + rng.uniform(-0.02, 0.02), z - 0.05 + 0.6 * (height - 0.08)),
        (width, width * rng.uniform(0.8, 1.1), height),
        home="sella",
        lobes=width * rng.uniform(0.03, 0.12),
        layers=((width * 0.15, 0.2), (0.0, level), *cyst),
        mottle=rng.uniform(0.02, 0.10),
        tail=0.0,
        push=rng.uniform(0.1, 0.5),
        waves=Waves.random(rng, count=4, frequency=0.4 / width),
    )


TUMOURS = {"glioma": _glioma, "meningioma": _meningioma, "pituitary": _pituitary}


def displaced(p: Points, lesion: Lesion) -> Points:
    """Where the tissue that is now at `p` lay before the lesion pushed it aside."""
    away = [c - np.float32(m) for c, m in zip((p.x, p.y, p.z), lesion.centre, strict=True)]
    distance = np.square(away[0]) + np.square(away[1]) + np.square(away[2])
    pull = lesion.push / np.square(1 + distance * (1 / (1.5 * max(lesion.half_axes)) ** 2))
    return Points(p.x - away[0] * pull, p.y - away[1] * pull, p.z - away[2] * pull)


def paint_lesion(image: np.ndarray, p: Points, lesion: Lesion, home: np.ndarray, mottle: np.ndarray) -> np.ndarray:
    """Paint the lesion in place, only where the signed distance `home` is negative, and return its mask (bool)."""
    surface = ellipsoid(p, lesion.centre, lesion.half_axes) + lesion.lobes * lesion.waves(p)
    bounds = cover(home)
    if lesion.tail:
        tail = np.maximum(surface - lesion.tail, -home - 0.03)
        paint(image, cover(tail) * bounds, lesion.layers[-1][1])
    for margin, level in lesion.layers:
        reach = margin * (1 + 0.9 * mottle) if margin > 0 else margin
        paint(image, cover(surface - reach, 0.03) * bounds, level * (1 + lesion.mottle * mottle))
    return cover(surface) * bounds > 0.5
