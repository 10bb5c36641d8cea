"""The points of a slice in space, smooth random fields over them, and painting by signed distance."""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

Triple = tuple[float, float, float]
SOFTNESS = 0.022  # width of the soft border between two tissues


@dataclass(frozen=True)
class Points:
    """Coordinates of the pixels of a slice in the head: three float32 arrays of the same shape."""

    x: np.ndarray
    y: np.ndarray
    z: np.ndarray

    def folded(self) -> "Points":
        """The same points mirrored to one side of the head, so that one ellipsoid describes a pair."""
        return Points(np.abs(self.x), self.y, self.z)

    def scaled(self, factor: np.ndarray) -> "Points":
        """The same points, each at `factor` times its distance from the origin."""
        return Points(self.x * factor, self.y * factor, self.z * factor)

    @cached_property
    def _extents(self) -> list[list[tuple[np.ndarray, np.ndarray]]]:
        """Smallest and largest x, y, z of every row, then of every column."""
        return [[(c.min(axis=a), c.max(axis=a)) for c in (self.x, self.y, self.z)] for a in (1, 0)]

    def window(self, centre: Triple, reach: Triple) -> tuple[slice, slice] | None:
        """The rows and columns that may lie within `reach` of `centre`; None if the slice misses it."""
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
class Waves:
    """A smooth random field over space with mean 0 and standard deviation 0.73: a sum of parabolic waves.

    Attributes:
        vectors: (n, 3) float32, cycles per unit of length along each axis.
        phases: (n,) float32, cycles.
    """

    vectors: np.ndarray
    phases: np.ndarray

    @classmethod
    def random(cls, rng: np.random.Generator, *, count: int, frequency: float) -> "Waves":
        """`count` waves of random direction and phase, with about `frequency` cycles per unit of length."""
        directions = rng.normal(size=(count, 3))
        lengths = np.sqrt(directions[:, :1] ** 2 + directions[:, 1:2] ** 2 + directions[:, 2:] ** 2)
        vectors = directions / lengths * frequency * rng.uniform(0.75, 1.3, (count, 1))
        return cls(vectors.astype(np.float32), rng.random(count, np.float32))

    def __call__(self, p: Points) -> np.ndarray:
        total = np.zeros_like(p.x)
        t, part = np.empty_like(p.x), np.empty_like(p.x)  # reused, because allocation would take most of the time
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


def ellipsoid(p: Points, centre: Triple, half_axes: Triple) -> np.ndarray:
    """Approximate signed distance of each point to an ellipsoid, negative inside."""
    total = np.square((p.x - np.float32(centre[0])) * np.float32(1 / half_axes[0]))
    total += np.square((p.y - np.float32(centre[1])) * np.float32(1 / half_axes[1]))
    total += np.square((p.z - np.float32(centre[2])) * np.float32(1 / half_axes[2]))
    np.sqrt(total, out=total)
    total -= 1
    total *= np.float32(3 / (1 / half_axes[0] + 1 / half_axes[1] + 1 / half_axes[2]))
    return total


def ramp(value: np.ndarray) -> np.ndarray:
    """The value, cut to 0 to 1."""
    return np.clip(value, 0, 1)


def cover(distance: np.ndarray, softness: float = SOFTNESS) -> np.ndarray:
    """Coverage of each pixel from its signed distance: 1 inside, 0 outside, a ramp of width `softness` between."""
    return ramp(0.5 - distance * (1 / softness))


def paint(image: np.ndarray, cover: np.ndarray, level: float | np.ndarray) -> None:
    """Blend `level` into `image` in place, weighted by `cover` (0 to 1)."""
    image += cover * (level - image)
