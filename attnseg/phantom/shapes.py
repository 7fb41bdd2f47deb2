"""Shapes that organs are made of, as pure functions of points in mm.

Axes as in a CT: z towards the head, y towards the back, x towards the patient's left; the origin
is the middle of the field. Large organs are given as what a ray from front to back meets: an
`Interval` of y at (z, x). Their line integrals are then exact on however coarse a depth axis.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Point = tuple[float, float, float]
"""(z, y, x) in mm."""

FAR = 1e4  # mm, beyond everything


class Interval(NamedTuple):
    """The stretch of y (mm) that an organ fills at each (z, x); empty where front >= back."""

    front: Array
    back: Array

    def holds(self, y: Array) -> Array:
        """Whether points at (z, y, x) lie inside, given the interval at their (z, x)."""
        inside: Array = (y > self.front) & (y < self.back)
        return inside

    def hull(self, other: Interval) -> Interval:
        """The least interval over both; for organs that meet, their union."""
        a, b = self.cleared(), other.cleared()
        return Interval(np.minimum(a.front, b.front), np.maximum(a.back, b.back))

    def cleared(self) -> Interval:
        """The same, with (FAR, -FAR) where it is empty."""
        some = self.front < self.back
        return Interval(np.where(some, self.front, FAR), np.where(some, self.back, -FAR))

    def only(self, where: Array) -> Interval:
        """Empty outside `where`."""
        return Interval(np.where(where, self.front, FAR), np.where(where, self.back, -FAR))


class Ellipsoid(NamedTuple):
    """An ellipsoid turned by `tilt` in the coronal plane, the left end down."""

    centre: Point
    radii: Point
    tilt: float = 0.0

    def interval(self, z: Array, x: Array) -> Interval:
        """What the ray at (z, x) meets. Broadcasts."""
        dz, dx = z - self.centre[0], x - self.centre[2]
        cos, sin = float(np.cos(self.tilt)), float(np.sin(self.tilt))
        across = (dx * sin + dz * cos) / self.radii[0]
        along = (dx * cos - dz * sin) / self.radii[2]
        half = self.radii[1] * root(1.0 - across**2 - along**2)
        return Interval(self.centre[1] - half, self.centre[1] + half)


class Capsule(NamedTuple):
    """A segment with rounded ends, its radius going from `start_radius` to `end_radius`."""

    start: Point
    end: Point
    start_radius: float
    end_radius: float

    def depth(self, z: Array, y: Array, x: Array) -> Array:
        """Depth below the surface in mm, negative outside. Broadcasts."""
        axis = np.subtract(self.end, self.start).astype(np.float32)
        dz, dy, dx = (c - np.float32(s) for c, s in zip((z, y, x), self.start, strict=True))
        length2 = np.float32(max(float(np.square(axis).sum()), 1e-6))
        t = np.clip((dz * axis[0] + dy * axis[1] + dx * axis[2]) / length2, 0.0, 1.0)
        distance2 = (dz - t * axis[0]) ** 2 + (dy - t * axis[1]) ** 2 + (dx - t * axis[2]) ** 2
        radius = self.start_radius + t * np.float32(self.end_radius - self.start_radius)
        depth: Array = radius - np.sqrt(distance2)
        return depth


def root(value: Array) -> Array:
    """Square root, 0 of what is negative."""
    return np.sqrt(np.maximum(value, 0.0))
