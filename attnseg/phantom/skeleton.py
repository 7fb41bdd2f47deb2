"""Bones of the phantom: spine, ribs, breastbone, clavicles and shoulder blades."""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import numpy as np

from attnseg.phantom import anatomy
from attnseg.phantom.anatomy import Patient
from attnseg.phantom.paint import Grid, cover, fill_bone, fill_interval, mix
from attnseg.phantom.shapes import Array, Capsule, Interval

RIB_ENDS = (0.82, 0.82, 0.8, 0.79, 0.78, 0.77, 0.75, 0.7, 0.66, 0.6, 0.45, 0.3)
"""Where bone turns into cartilage, as a share of the way from the spine to the breastbone."""


def paint_spine(volume: Array, grid: Grid, patient: Patient) -> None:
    """Vertebral bodies with end plates and discs, pedicles, processes."""
    back = 0.8 * patient.cage_b
    box = grid.box(np.array([-400.0, back - 60.0, -50.0]), np.array([400.0, back + 75.0, 50.0]))
    z, y, x = grid.axes(box)
    centre_y, centre_x = anatomy.spine_centre(patient, z)
    half_y, half_x = anatomy.spine_radii(z)
    phase = ((patient.apex_z - z) / patient.rib_pitch) % 1.0 - 0.5  # 0 mid-vertebra
    waist = half_x * (0.9 + 0.45 * phase**2)
    dy, dx = y - centre_y, np.abs(x - centre_x)
    level = np.sqrt((dy / half_y) ** 2 + (dx / waist) ** 2)
    depth = (1.0 - level) * half_y
    disc = cover(0.09 * patient.rib_pitch - (0.5 - np.abs(phase)) * patient.rib_pitch, 2.0)
    plate = cover(0.09 * patient.rib_pitch + 2.0 - (0.5 - np.abs(phase)) * patient.rib_pitch, 2.0)
    bone = patient.bone * (0.3 + 0.35 * plate + 0.3 * cover(2.0 - depth, 2.0))
    mix(volume, box, cover(depth, 2.0), bone + disc * (85.0 - bone))
    behind = dy - half_y
    along = phase * patient.rib_pitch
    pedicle = 4.5 - np.sqrt((dx - 0.72 * half_x) ** 2 + (along - 3.0) ** 2)
    process = 4.0 - np.sqrt((0.45 * along) ** 2 + dx**2)
    wing = 4.0 - np.sqrt((along - 2.0 + 0.2 * dx) ** 2 + np.maximum(dx - half_x - 12.0, 0.0) ** 2)
    mix(
        volume,
        box,
        cover(np.minimum(pedicle, 9.0 - np.abs(behind - 4.0)), 2.0),
        0.75 * patient.bone,
    )
    mix(
        volume,
        box,
        cover(np.minimum(process, 13.0 - np.abs(behind - 26.0)), 2.0),
        0.5 * patient.bone,
    )
    mix(volume, box, cover(np.minimum(wing, 4.0 - np.abs(behind - 12.0)), 2.0), 0.5 * patient.bone)


def paint_ribs(volume: Array, grid: Grid, patient: Patient) -> None:
    """Twelve pairs around the cage, falling forwards; cortex at their edges, then cartilage."""
    shell = _cage_shell(grid, patient)
    flat, edge, columns = volume.reshape(-1), grid.spacing[0], grid.x.size
    for rib, end in enumerate(RIB_ENDS):
        head = patient.apex_z - 4.0 - patient.rib_pitch * rib * (0.88 + 0.012 * rib)
        drop = patient.rib_drop * min(0.5 + 0.14 * rib, 1.0)
        reach = patient.rib_height + edge
        here = slice(*np.searchsorted(shell.z, (head - drop - reach, head + reach)))
        z, angle = shell.z[here], shell.angle[here]
        half = (0.5 * patient.rib_height) * (0.85 + 0.3 * angle)
        depth = half - np.abs(z - np.float32(head) + np.float32(drop) * angle**1.5)
        near = np.flatnonzero(depth > -0.5 * edge)
        inside = depth[near]
        bone = patient.bone * (0.45 + 0.3 * cover(2.0 - inside, 2.0))
        cartilage = 90.0 if rib < 9 else 40.0
        hu = cartilage + cover(end - angle[near], 0.06) * (bone - cartilage)
        share = shell.share[here][near] * cover(inside, edge)
        right = shell.voxel[here][near]
        column = right % columns
        for at in (right, right + columns - 1 - 2 * column):  # the cage is symmetric
            under = flat[at]
            flat[at] = np.rint(under + share * (hu - under))


class _Shell(NamedTuple):
    """Voxels of the right half between the lungs' surface and the outside of the ribs.

    Attributes:
        voxel: flat, rising, so z rises too.
        share: of the voxel within the shell.
        angle: way around from the back (0) to the front (1).
        z: in mm.
    """

    voxel: Array
    share: Array
    angle: Array
    z: Array


def _cage_shell(grid: Grid, patient: Patient) -> _Shell:
    half = grid.x.size // 2
    z, x = grid.z[:, 0, :], grid.x[0, :, :half]
    margin = 0.5 * grid.spacing[1]
    wide = anatomy.cage(patient, z, x, anatomy.WALL_MM + margin)
    tight = anatomy.cage(patient, z, x, -margin)
    y = grid.y
    shell = (y > wide.front[:, None]) & (y < wide.back[:, None])
    shell &= (y < tight.front[:, None]) | (y > tight.back[:, None])
    iz, iy, ix = np.nonzero(shell)
    a, b, middle = (v[:, 0][iz] for v in anatomy.cage_axes(patient, z))
    sideways, back = -x[0, ix], grid.y[0, iy, 0] - middle
    across, along = sideways / a, back / b
    power = np.float32(anatomy.CAGE_POWER)
    level = (across**power + np.abs(along) ** power) ** (1.0 / power)
    outside = np.sqrt(sideways**2 + back**2) * (1.0 - 1.0 / np.maximum(level, 1e-3))
    depth = 0.5 * anatomy.WALL_MM - np.abs(outside - 0.5 * anatomy.WALL_MM)
    angle = np.arctan2(across, along) * np.float32(1.0 / np.pi)
    bony = (angle > 0.1) & (angle < 0.95)
    index = (iz * grid.y.size + iy) * grid.x.size + ix
    share = cover(depth, grid.spacing[1])
    return _Shell(index[bony], share[bony], angle[bony], z[:, 0][iz[bony]])


def paint_shoulder_girdle(volume: Array, grid: Grid, patient: Patient) -> None:
    """Clavicles, shoulder blades and breastbone."""
    top = patient.shoulder_z
    for side in (-1, 1):
        course = [
            (top - 26.0, -46.0, side * 14.0),
            (top - 18.0, -42.0, side * 55.0),
            (top - 4.0, -14.0, side * 105.0),
            (top, 8.0, side * 150.0),
        ]
        for start, end in pairwise(course):
            fill_bone(volume, grid, Capsule(start, end, 6.5, 5.5), patient.bone)
        border = Capsule((-8.0, 66.0, side * 118.0), (top - 30.0, 40.0, side * 152.0), 3.5, 6.0)
        fill_bone(volume, grid, border, patient.bone)
        ridge = Capsule((top - 35.0, 78.0, side * 92.0), (top - 8.0, 50.0, side * 160.0), 3.0, 5.0)
        fill_bone(volume, grid, ridge, patient.bone)
    z, x = grid.rays()
    _, b, middle = anatomy.cage_axes(patient, z)
    half = 18.0 - 5.0 * np.cos((top - 28.0 - z) / 22.0)
    there = (np.abs(x) < half) & (z > -45.0) & (z < top - 28.0)
    plate = Interval(middle - b - 9.0, middle - b).only(there)
    fill_interval(volume, grid, plate, 0.3 * patient.bone)
