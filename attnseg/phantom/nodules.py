"""Nodules: how many a case has, where they lie, and their shape."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from attnseg.phantom.anatomy import Patient, heart, in_lung, lung_space
from attnseg.phantom.shapes import Array, Point

GOLDEN = 0.6180339887498949
CANDIDATES = 96  # places tried before a nodule is made smaller
LOBES = 4
CLEAR_SHARE = 0.85  # of nodules; the rest lie against or behind heart, diaphragm, chest wall
CLEAR_DEPTH = 1.1  # lung met by a ray there, relative to the half-depth of the cage
CLEAR_MARGIN = 4.0  # mm around the nodule that are clear too


@dataclass(frozen=True)
class Nodule:
    """A lobulated, slightly elongated solid nodule.

    Attributes:
        centre: (z, y, x) in mm.
        radius: mean radius in mm.
        contrast_hu: HU above the lung around it.
        stretch: relative length of the three axes.
        lobes: (LOBES, 5): direction, frequency and phase of the surface's waves.
        roughness: height of those waves relative to the radius.
    """

    centre: Point
    radius: float
    contrast_hu: float
    stretch: Point
    lobes: Array
    roughness: float

    @property
    def reach(self) -> float:
        """Radius of a sphere around the centre that holds the nodule."""
        return self.radius * max(self.stretch) * (1.0 + self.roughness) + 1.0

    def depth(self, z: Array, y: Array, x: Array) -> Array:
        """Depth below the surface in mm (exact for a sphere), negative outside. Broadcasts."""
        coordinates = zip((z, y, x), self.centre, self.stretch, strict=True)
        dz, dy, dx = (
            np.asarray((c - at) / length, dtype=np.float32) for c, at, length in coordinates
        )
        distance = np.sqrt(dz**2 + dy**2 + dx**2)
        scale = 1.0 / np.maximum(distance, np.float32(1e-3))
        wave = np.zeros_like(distance)
        for vz, vy, vx, frequency, phase in self.lobes.astype(np.float32):
            wave += np.sin(frequency * (dz * vz + dy * vy + dx * vx) * scale + phase)
        waves = np.float32(self.roughness / LOBES) * wave
        depth: Array = np.float32(self.radius) * (1.0 + waves) - distance
        return depth


def is_negative(seed: int, index: int, negative_fraction: float) -> bool:
    """Whether a case has no nodule.

    A golden-ratio sequence rather than a coin: any run of consecutive cases holds very nearly
    `negative_fraction` of negatives, so small data sets are not left without either kind.
    """
    phase = float(np.random.default_rng((seed, 0x6E6567)).random())
    return (phase + index * GOLDEN) % 1.0 < negative_fraction


def count_nodules(rng: np.random.Generator, max_nodules: int) -> int:
    """How many nodules a positive case has: each further one half as likely."""
    weights = 0.5 ** np.arange(max_nodules)
    return 1 + int(rng.choice(max_nodules, p=weights / weights.sum()))


def draw_nodules(
    patient: Patient,
    rng: np.random.Generator,
    count: int,
    diameter_mm: tuple[float, float],
    contrast_hu: tuple[float, float],
) -> list[Nodule]:
    """Place `count` nodules in the lungs, apart from each other.

    Most lie evenly within the lung fields that a radiograph shows freely, the rest evenly
    within the remainder of the lungs. Diameters are log-uniform: small ones are the more
    common. A nodule for which no place is left becomes smaller until there is one.
    """
    nodules: list[Nodule] = []
    for _ in range(count):
        radius = 0.5 * float(np.exp(rng.uniform(*np.log(diameter_mm))))
        clear = bool(rng.random() < CLEAR_SHARE)
        centre, radius = _place(patient, rng, radius, nodules, clear)
        lobes = np.concatenate(
            [
                _directions(rng, LOBES),
                rng.uniform(2.0, 6.0, (LOBES, 1)),
                rng.uniform(0.0, 2.0 * np.pi, (LOBES, 1)),
            ],
            axis=1,
        )
        stretch = rng.uniform(0.85, 1.15, 3)
        nodules.append(
            Nodule(
                centre=centre,
                radius=radius,
                contrast_hu=float(rng.uniform(*contrast_hu)),
                stretch=(float(stretch[0]), float(stretch[1]), float(stretch[2])),
                lobes=lobes,
                roughness=float(rng.uniform(0.05, 0.4)),
            )
        )
    return nodules


def _place(
    patient: Patient, rng: np.random.Generator, radius: float, others: list[Nodule], clear: bool
) -> tuple[Point, float]:
    """A centre around which a sphere of (nearly) `radius` is lung; the radius that fits."""
    low = np.array([min(patient.dome_z) - 60.0, -patient.cage_b, -patient.cage_a])
    high = np.array([patient.apex_z, patient.cage_b, patient.cage_a])
    shell = np.concatenate([_directions(rng, 24), np.zeros((1, 3))])
    wanted = radius
    while True:
        centres = rng.uniform(low, high, (CANDIDATES, 3))
        around = centres[:, None, :] + 0.85 * radius * shell  # 0.85: some touch the pleura
        fits = in_lung(patient, around[..., 0], around[..., 1], around[..., 2]).all(axis=1)
        fits &= is_clear(patient, centres[:, 0], centres[:, 2], radius) == clear
        apart = radius > 0.3 * wanted  # where lungs are full, nodules may touch
        for other in others if apart else ():
            gap = np.sqrt(((centres - other.centre) ** 2).sum(axis=1))
            fits &= gap > 1.2 * (radius + other.radius)
        if fits.any():
            z, y, x = centres[int(np.argmax(fits))]
            return (float(z), float(y), float(x)), radius
        radius *= 0.85


def is_clear(patient: Patient, z: Array, x: Array, radius: float) -> Array:
    """Whether rays at (z, x) and around the nodule's rim meet much lung and no heart."""
    reach = radius + CLEAR_MARGIN
    z = np.asarray(z)[..., None] + reach * np.array([0.0, 1.0, -1.0, 0.0, 0.0])
    x = np.asarray(x)[..., None] + reach * np.array([0.0, 0.0, 0.0, 1.0, -1.0])
    lung = lung_space(patient, z, x)
    clear = np.greater(lung.back - lung.front, CLEAR_DEPTH * patient.cage_b)
    for ellipsoid in heart(patient):
        met = ellipsoid.interval(z, x)
        clear = np.logical_and(clear, met.front >= met.back)
    every: Array = clear.all(axis=-1)
    return every


def _directions(rng: np.random.Generator, count: int) -> Array:
    """(count, 3) unit vectors, evenly over the sphere."""
    vectors = rng.standard_normal((count, 3))
    unit: Array = vectors / np.sqrt((vectors**2).sum(axis=1, keepdims=True))
    return unit
