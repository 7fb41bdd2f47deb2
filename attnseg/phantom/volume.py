"""The phantom itself: a patient's organs painted into a CT volume of HU."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy import ndimage

from attnseg.phantom import anatomy
from attnseg.phantom.anatomy import Patient
from attnseg.phantom.nodules import Nodule
from attnseg.phantom.paint import (
    Grid,
    add,
    add_vessels,
    cover,
    fill_capsule,
    fill_ellipsoid,
    fill_interval,
    make_grid,
)
from attnseg.phantom.shapes import Array, Ellipsoid
from attnseg.phantom.skeleton import paint_ribs, paint_shoulder_girdle, paint_spine
from attnseg.phantom.vessels import Vessels

FIELD_MM = 350.0
DEPTH_MM = 270.0
DEPTH_STEP_MM = 2.7  # coarse: only integrals along this axis are looked at


@dataclass(frozen=True)
class Phantom:
    """A CT of one procedural patient.

    Attributes:
        volume_hu: (Z, Y, X) int16 HU; z towards the head, y towards the back, x towards the left.
        nodule_mask: (Z, Y, X) bool, voxels at least half nodule.
        spacing: mm per voxel along z, y and x.
    """

    volume_hu: Array
    nodule_mask: Array
    spacing: tuple[float, float, float]


def build_phantom(
    patient: Patient,
    vessels: Vessels,
    nodules: list[Nodule],
    size: int,
    rng: np.random.Generator,
) -> Phantom:
    """Paint a patient: `size` voxels along z and x over a field of 350 mm.

    Args:
        patient: who.
        vessels: pulmonary vessels, painted inside the lungs only.
        nodules: painted inside the lungs only.
        size: voxels along z and x.
        rng: for tissue texture and bowel gas, the only draws made here.
    """
    step = FIELD_MM / size
    grid = make_grid((size, round(DEPTH_MM / DEPTH_STEP_MM), size), (step, DEPTH_STEP_MM, step))
    volume = np.full(grid.shape, -1000, dtype=np.int16)
    _paint_body(volume, grid, patient)
    _paint_abdomen(volume, grid, patient, rng)
    fill_interval(volume, grid, anatomy.lung_space(patient, *grid.rays()), patient.lung)
    _paint_mediastinum(volume, grid, patient)
    paint_spine(volume, grid, patient)
    lung = volume == np.int16(patient.lung)
    add_vessels(volume, grid, vessels, patient.blood, lung)
    paint_ribs(volume, grid, patient)
    paint_shoulder_girdle(volume, grid, patient)
    _add_texture(volume, rng)
    mask = np.zeros(grid.shape, dtype=np.bool_)
    for nodule in nodules:
        _paint_nodule(volume, mask, grid, nodule, patient.lung + nodule.contrast_hu, lung)
    return Phantom(volume, mask, grid.spacing)


def _paint_body(volume: Array, grid: Grid, patient: Patient) -> None:
    """Breasts, then fat, then muscle within it."""
    for breast in anatomy.breasts(patient):
        fill_ellipsoid(volume, grid, breast, -60.0)
    fill_interval(volume, grid, anatomy.torso(patient, *grid.rays()), -95.0)
    fill_interval(volume, grid, anatomy.torso(patient, *grid.rays(), patient.fat), 42.0)


def _paint_abdomen(volume: Array, grid: Grid, patient: Patient, rng: np.random.Generator) -> None:
    """Stomach and bowel gas; what lies above the diaphragm the lungs overwrite."""
    if patient.stomach > 0.0:
        r = patient.stomach
        centre = (patient.dome_z[1] - 1.0 * r - 14.0, -8.0, 0.5 * patient.cage_a)
        fill_ellipsoid(volume, grid, Ellipsoid(centre, (0.7 * r, r, 1.2 * r)), -960.0)
    for _ in range(int(rng.integers(0, 7))):
        radius = float(rng.uniform(6.0, 15.0))
        centre = (float(rng.uniform(-185.0, -140.0)), -45.0, float(rng.uniform(-100.0, 110.0)))
        gas = Ellipsoid(centre, (radius, radius, 1.5 * radius), float(rng.uniform(-0.8, 0.8)))
        fill_ellipsoid(volume, grid, gas, -950.0)


def _paint_mediastinum(volume: Array, grid: Grid, patient: Patient) -> None:
    """Heart, great vessels, airways."""
    for ellipsoid in anatomy.heart(patient):
        fill_ellipsoid(volume, grid, ellipsoid, 0.6 * patient.blood + 18.0)
    for vessel in anatomy.great_vessels(patient):
        fill_capsule(volume, grid, vessel, patient.blood)
    for airway in anatomy.airways(patient):
        fill_capsule(volume, grid, airway, -990.0)


def _add_texture(volume: Array, rng: np.random.Generator) -> None:
    """Inhomogeneity of all tissue, in place: some 12 HU over 10 mm, a tenth of the depth thick."""
    slabs, (rows, depth, columns) = 10, volume.shape
    noise = rng.normal(0.0, 52.0, (slabs, 72, 72)).astype(np.float32)
    noise = ndimage.gaussian_filter(noise, (0.0, 1.2, 1.2))  # linear steps alone look woven
    noise = _stretch(_stretch(noise, 1, rows), 2, columns).astype(np.int16)
    edges = np.linspace(0, depth, slabs + 1).astype(int)
    for slab, (start, stop) in enumerate(pairwise(edges)):
        part = volume[:, start:stop]
        part += noise[slab][:, None, :] * (part > -950)


def _stretch(values: Array, axis: int, length: int) -> Array:
    """Linear interpolation of one axis to `length` samples."""
    position = np.linspace(0.0, values.shape[axis] - 1.0, length)
    low = np.minimum(position.astype(np.intp), values.shape[axis] - 2)
    shape = [1, 1, 1]
    shape[axis] = length
    fraction = (position - low).astype(np.float32).reshape(shape)
    first = values.take(low, axis=axis)
    stretched: Array = first + fraction * (values.take(low + 1, axis=axis) - first)
    return stretched


def _paint_nodule(
    volume: Array, mask: Array, grid: Grid, nodule: Nodule, hu: float, lung: Array
) -> None:
    """Paint a nodule inside the lung and mark the voxels that are at least half nodule.

    One too small for that marks the voxel at its centre, so that a positive case has a mask.
    """
    centre = np.array(nodule.centre)
    box = grid.box(centre - nodule.reach, centre + nodule.reach)
    share = cover(nodule.depth(*grid.axes(box)), 1.5) * lung[box]
    add(volume, box, share, hu)
    mask[box] |= share >= 0.5
    if not (share >= 0.5).any():
        at = tuple(
            int(np.abs(axis.ravel() - where).argmin())
            for axis, where in zip(grid[:3], centre, strict=True)
        )
        volume[at] = max(volume[at], np.int16(hu))
        mask[at] = True
