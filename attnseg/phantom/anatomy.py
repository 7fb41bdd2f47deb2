"""The analytic patient behind a phantom: who they are, and where their organs lie.

Everything is a pure function of a few drawn numbers and of points in mm, so that a patient is
the same at every image size. Axes as in `shapes`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from attnseg.phantom.shapes import FAR, Array, Capsule, Ellipsoid, Interval, Point, root

CAGE_POWER = 2.4  # the rib cage's axial outline: a superellipse, a little boxier than an ellipse
TORSO_POWER = 2.6
WALL_MM = 8.0  # lung surface to the outside of the ribs


@dataclass(frozen=True)
class Patient:
    """The drawn numbers of one patient; lengths in mm, densities in HU."""

    apex_z: float  # top of the lungs
    lung_height: float  # apex to the level at which the cage is widest
    cage_a: float  # half-width of the cage at its widest
    cage_b: float  # half-depth there
    dome_z: tuple[float, float]  # top of the diaphragm: right, left
    wall: float  # muscle and fat outside the cage
    fat: float
    breast: float  # how far they stand out; 0 for none
    shoulder_z: float
    mediastinum: float  # half-width
    heart: float  # size relative to the usual
    heart_tilt: float  # radians from horizontal
    heart_x: float
    aorta: float  # radius
    sway: tuple[float, float]  # the spine's lateral curve: amplitude and phase
    rib_pitch: float
    rib_drop: float  # how far a rib descends from its head to its end
    rib_height: float
    bone: float  # HU of cortical bone
    blood: float  # HU in heart and vessels: contrast agent or none
    lung: float  # HU of parenchyma
    vessel: float  # radius of the finest drawn vessels
    stomach: float  # radius of the gas bubble under the left dome; 0 for none


def draw_patient(rng: np.random.Generator) -> Patient:
    """Draw one patient; ranges chosen to match the look of the LIDC DRRs."""

    def between(low: float, high: float) -> float:
        return float(rng.uniform(low, high))

    size = between(0.92, 1.06)
    dome = between(-95.0, -70.0)
    contrast_agent = rng.random() < 0.5
    return Patient(
        apex_z=between(118.0, 136.0),
        lung_height=size * between(185.0, 215.0),
        cage_a=size * between(122.0, 138.0),
        cage_b=size * between(78.0, 95.0),
        dome_z=(dome, dome - between(4.0, 18.0)),
        wall=between(14.0, 34.0),
        fat=between(5.0, 18.0),
        breast=between(6.0, 19.0) if rng.random() < 0.45 else 0.0,
        shoulder_z=between(108.0, 128.0),
        mediastinum=between(23.0, 29.0),
        heart=size * between(0.88, 1.15),
        heart_tilt=float(np.deg2rad(between(25.0, 48.0))),
        heart_x=between(10.0, 22.0),
        aorta=between(12.0, 16.0),
        sway=(between(0.0, 6.0), between(0.0, 2.0 * np.pi)),
        rib_pitch=size * between(23.5, 27.0),
        rib_drop=between(75.0, 115.0),
        rib_height=between(11.0, 15.0),
        bone=between(500.0, 850.0),
        blood=between(110.0, 230.0) if contrast_agent else between(35.0, 55.0),
        lung=float(round(between(-880.0, -820.0))),
        vessel=between(0.8, 1.15),
        stomach=between(14.0, 32.0) if rng.random() < 0.6 else 0.0,
    )


# --- the chest's surfaces -------------------------------------------------------------------


def cage_axes(patient: Patient, z: Array) -> tuple[Array, Array, Array]:
    """Half-width, half-depth and centre (y) of the rib cage's inner outline at heights `z`."""
    t = np.clip((patient.apex_z - z) / patient.lung_height, 0.0, 1.0)
    grown = np.sin(0.5 * np.pi * t**0.8)
    wide, deep = 0.55 + 0.45 * grown, 0.62 + 0.38 * grown
    return patient.cage_a * wide, patient.cage_b * deep, 14.0 * (1.0 - grown)


def cage(patient: Patient, z: Array, x: Array, outside: float = 0.0) -> Interval:
    """The rib cage, grown by `outside` mm; it reaches over the lungs' tops and bottoms."""
    a, b, middle = cage_axes(patient, z)
    inside = 1.0 - np.minimum(np.abs(x) / (a + outside), 1.0) ** CAGE_POWER
    half = (b + outside) * inside ** (1.0 / CAGE_POWER)
    return Interval(middle - half, middle + half)


def lung_space(patient: Patient, z: Array, x: Array) -> Interval:
    """The pleural space: cage, less what lies between the lungs, over and under them.

    Apex and diaphragm are paraboloids of y (the diaphragm level in front, falling to the back)
    and the mediastinum widens linearly to the back, so that a ray meets one interval.
    """
    side = np.abs(x)
    front, back = cage(patient, z, x)
    narrow, wide = 0.15 * patient.mediastinum, patient.mediastinum
    share = (side - narrow) / (wide - narrow)
    behind = np.where(share < 1.0, patient.cage_b * (1.5 * share - 0.9), FAR)
    centre = 0.42 * patient.cage_a
    over = (patient.apex_z - z - 46.0 * ((side - centre) / centre) ** 2) / 38.0
    reach = np.where(over > 0.0, patient.cage_b * root(over), -FAR)
    under = (dome_height(patient, x) - z) / 30.0
    crest = -0.45 * patient.cage_b
    before = np.where(under > 0.0, crest + patient.cage_b * root(under), -FAR)
    return Interval(
        np.maximum(np.maximum(front, 16.0 - reach), before),
        np.minimum(np.minimum(back, 16.0 + reach), behind),
    )


def dome_height(patient: Patient, x: Array) -> Array:
    """Top of the diaphragm at x: two domes, steeper to the sides."""
    side = (np.abs(x) - 0.46 * patient.cage_a) / (0.5 * patient.cage_a)
    top = np.where(x < 0.0, patient.dome_z[0], patient.dome_z[1])
    height: Array = top - np.where(side > 0.0, 38.0, 14.0) * side**2
    return height


def torso(patient: Patient, z: Array, x: Array, inset: float = 0.0) -> Interval:
    """Trunk, shoulders and neck, shrunk by `inset` mm."""
    side = np.abs(x)
    a, b, middle = cage_axes(patient, z)
    grow = WALL_MM + patient.wall - inset
    a, b = np.maximum(a, 0.86 * patient.cage_a) + grow, np.maximum(b, 0.74 * patient.cage_b) + grow
    inside = 1.0 - np.minimum(side / a, 1.0) ** TORSO_POWER
    # Where the shoulders slope away the body thins out, rather than ending as a wall.
    slope = patient.shoulder_z + 52.0 * np.exp(-np.maximum(side - 48.0, 0.0) / 34.0) - inset
    half = b * inside ** (1.0 / TORSO_POWER) * np.minimum(root((slope - z) / 55.0), 1.0)
    trunk = Interval(middle - half, middle + half)
    neck_half = np.where(z > 80.0, (54.0 - inset) * root(1.0 - (x / (56.0 - inset)) ** 2), 0.0)
    body = trunk.hull(Interval(14.0 - neck_half, 14.0 + neck_half))
    for sign in (-1, 1):
        centre = (patient.shoulder_z - 30.0, 14.0, sign * 132.0)
        radii = (50.0 - inset, 58.0 - inset, 100.0 - inset)
        body = body.hull(Ellipsoid(centre, radii, sign * 0.25).interval(z, x))
    return body


def breasts(patient: Patient) -> tuple[Ellipsoid, ...]:
    """Mostly inside the torso, which is painted over them: they thin out to their rims."""
    front = -(patient.cage_b + WALL_MM + patient.wall)
    r = patient.breast
    return tuple(
        Ellipsoid((-48.0, front + 0.6 * r, sign * 74.0), (22.0 + 1.7 * r, 1.6 * r, 28.0 + 1.6 * r))
        for sign in (-1, 1)
        if r > 0.0
    )


def spine_centre(patient: Patient, z: Array) -> tuple[Array, Array]:
    """(y, x) of the vertebral bodies at heights `z`: kyphosis and a slight lateral curve."""
    amplitude, phase = patient.sway
    y = 0.80 * patient.cage_b - 10.0 * ((z - 10.0) / 120.0) ** 2
    return y, amplitude * np.sin(z / 60.0 + phase)


def spine_radii(z: Array) -> tuple[Array, Array]:
    """Half-depth and half-width of the vertebral bodies, growing downwards."""
    down = np.clip((170.0 - z) / 340.0, 0.0, 1.0)
    return 12.0 + 5.0 * down, 14.5 + 7.0 * down


# --- organs made of simple shapes -----------------------------------------------------------


def heart(patient: Patient) -> tuple[Ellipsoid, ...]:
    """Ventricles, pointing down to the left, and the right atrium."""
    s, base = patient.heart, patient.dome_z[1]
    ventricles = Ellipsoid(
        (base + 38.0 * s, -24.0, patient.heart_x + 4.0),
        (43.0 * s, 44.0 * s, 63.0 * s),
        patient.heart_tilt,
    )
    atrium = Ellipsoid(
        (base + 55.0 * s, -12.0, patient.heart_x - 32.0), (44.0 * s, 36.0 * s, 24.0 * s)
    )
    return ventricles, atrium


def great_vessels(patient: Patient) -> tuple[Capsule, ...]:
    """Aorta with its arch, superior caval vein and the hilar pulmonary arteries."""
    r = patient.aorta
    back = 0.48 * patient.cage_b
    arch = 62.0
    return (
        Capsule((-20.0, -18.0, 0.0), (arch - 12.0, -22.0, -10.0), 1.15 * r, 1.1 * r),
        Capsule((arch - 12.0, -22.0, -10.0), (arch, 0.0, 12.0), 1.1 * r, r),
        Capsule((arch, 0.0, 12.0), (arch - 14.0, back, 21.0), r, r),
        Capsule((arch - 14.0, back, 21.0), (-175.0, back, 8.0), r, 0.8 * r),
        Capsule((-10.0, -18.0, -24.0), (110.0, -8.0, -19.0), 10.0, 9.0),
        Capsule((20.0, -12.0, 8.0), hilum(patient, 1), 15.0, 8.0),
        Capsule((14.0, -8.0, 0.0), hilum(patient, -1), 13.0, 8.0),
        Capsule(hilum(patient, 1), (-16.0, 16.0, 44.0), 7.5, 2.5),
        Capsule(hilum(patient, -1), (-32.0, 14.0, -46.0), 7.5, 3.0),
    )


def hilum(patient: Patient, side: int) -> Point:
    """Where vessels enter the lung: side -1 the right, +1 the left (a little higher)."""
    return (22.0 if side > 0 else 10.0, 4.0, side * (patient.mediastinum + 11.0))


def airways(patient: Patient) -> tuple[Capsule, ...]:
    """Trachea and main bronchi."""
    carina: Point = (42.0, 12.0, 0.0)
    _, right_y, right_x = hilum(patient, -1)
    _, left_y, left_x = hilum(patient, 1)
    return (
        Capsule((180.0, 6.0, 1.0), carina, 8.5, 8.5),
        Capsule(carina, (16.0, right_y + 6.0, right_x), 7.5, 5.0),
        Capsule(carina, (12.0, left_y + 8.0, left_x), 6.5, 4.5),
    )


def in_lung(patient: Patient, z: Array, y: Array, x: Array) -> Array:
    """Whether points lie in lung tissue, clear of heart, great vessels and spine."""
    inside = lung_space(patient, z, x).holds(y)
    for ellipsoid in heart(patient):
        inside &= ~ellipsoid.interval(z, x).holds(y)
    for capsule in great_vessels(patient):
        inside &= capsule.depth(z, y, x) < 0.0
    centre_y, centre_x = spine_centre(patient, z)
    half_y, half_x = spine_radii(z)
    level = ((y - centre_y) / (half_y + 3.0)) ** 2 + ((x - centre_x) / (half_x + 3.0)) ** 2
    clear: Array = inside & (level > 1.0)
    return clear
