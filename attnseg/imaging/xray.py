"""A simulated radiograph of the patient whose DRR is given, from the CT or from the DRR alone.

It differs from the DRR as a real one would: a slightly other pose seen from a point source, other
energies (bone stands out differently, beams harden), scatter and what the anti-scatter grid left
of it, quantum noise, the tube's heel effect, and the reader's window and gamma. The pose stays
close (a nodule moves by 2 mm), because the mask is the DRR's. Every draw comes from the
generator of `key`.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

Array = npt.NDArray[Any]
Image = npt.NDArray[np.float32]

SLABS = 8  # depths at which perspective and rotation are applied to a volume
BONE_HU = 150  # what exceeds it is taken for bone mineral
DRR_WATER_MM = 240.0  # path that the white of a DRR stands for, where there is no CT


@dataclass(frozen=True)
class Pose:
    """How the patient stands between tube and detector, against the DRR's geometry.

    Attributes:
        shift_mm: translation along rows and columns.
        roll, pitch, yaw: radians; roll turns the image, the others shear it with depth.
        zoom: magnification at the patient's mid-plane.
        source_mm: from the tube's focus to the mid-plane; the tube is behind the patient (PA).
    """

    shift_mm: tuple[float, float]
    roll: float
    pitch: float
    yaw: float
    zoom: float
    source_mm: float


@dataclass(frozen=True)
class Beam:
    """Tube, grid, detector and display.

    Attributes:
        water_per_mm: effective attenuation of water.
        hardening: relative spread of attenuation over the spectrum.
        bone_factor: how much more than in proportion to its HU bone attenuates.
        scatter: what of the scattered radiation passes the grid.
        scatter_mm: reach of scatter.
        grid_lines: amplitude and cycles per pixel of what is seen of the grid.
        photons: per pixel, without a patient.
        heel: loss of intensity from one end of the image to the other.
        blur_px: sigma of focal spot and detector.
        detail: strength of the display's local contrast enhancement, and its scale in mm.
        gamma: of the displayed image.
    """

    water_per_mm: float
    hardening: float
    bone_factor: float
    scatter: float
    scatter_mm: float
    grid_lines: tuple[float, float]
    photons: float
    heel: float
    blur_px: float
    detail: tuple[float, float]
    gamma: float


def draw_pose(rng: np.random.Generator) -> Pose:
    """A patient standing nearly as they lay: within 1.5 mm and a degree, 2 m from the tube."""
    shift = rng.uniform(-1.5, 1.5, 2)
    roll, pitch, yaw = np.deg2rad(rng.uniform(-1.0, 1.0, 3) * (0.7, 1.0, 1.0))
    return Pose(
        shift_mm=(float(shift[0]), float(shift[1])),
        roll=float(roll),
        pitch=float(pitch),
        yaw=float(yaw),
        zoom=float(rng.uniform(0.995, 1.005)),
        source_mm=float(rng.uniform(1700.0, 1900.0)),
    )


def draw_beam(rng: np.random.Generator) -> Beam:
    """Chest technique, about 90 to 130 kVp with a grid."""
    energy = float(rng.uniform(0.0, 1.0))  # 0 soft, 1 hard
    return Beam(
        water_per_mm=0.0215 - 0.0035 * energy,
        hardening=float(rng.uniform(0.1, 0.25)),
        bone_factor=2.0 - 0.8 * energy,
        scatter=float(rng.uniform(0.05, 0.25)),
        scatter_mm=float(rng.uniform(18.0, 35.0)),
        grid_lines=(float(rng.uniform(0.0, 0.012)), float(rng.uniform(0.2, 0.45))),
        photons=float(np.exp(rng.uniform(np.log(5e4), np.log(4e5)))),
        heel=float(rng.uniform(0.0, 0.2)),
        blur_px=float(rng.uniform(0.3, 0.6)),
        detail=(float(rng.uniform(0.8, 2.0)), float(rng.uniform(20.0, 32.0))),
        gamma=float(rng.uniform(0.85, 1.25)),
    )


def simulate_xray(
    drr: Array, key: tuple[int, ...], spacing: tuple[float, float] | None = None
) -> Image:
    """A radiograph made from a DRR alone, for data sets that have no X-ray.

    Args:
        drr: (H, W) in [0, 1], dense tissue bright.
        key: keys the draws; the same key gives the same picture.
        spacing: mm per pixel; unknown, the image is taken to be 350 mm wide.

    Returns:
        (H, W) float32 in [0, 1] on the DRR's grid.
    """
    assert drr.ndim == 2, f"a DRR has two axes, not {drr.ndim}"
    rng = np.random.default_rng(key)
    rows_mm, columns_mm = spacing or (350.0 / drr.shape[1],) * 2
    path = (DRR_WATER_MM * drr[None]).astype(np.float32)
    path = view(path, np.zeros(1), (rows_mm, columns_mm), draw_pose(rng))
    return expose(path, (rows_mm, columns_mm), draw_beam(rng), rng)


def xray_of_volume(
    volume_hu: Array, spacing: tuple[float, float, float], key: tuple[int, ...]
) -> Image:
    """A radiograph of a CT, on the grid of its DRR.

    Args:
        volume_hu: (Z, Y, X) integer HU; z towards the head, y towards the back; spacing[0] and
            spacing[2] alike, as the DRR's pixels are square.
        spacing: mm per voxel along z, y and x.
        key: keys the draws; the same key gives the same picture.

    Returns:
        (Z, X) float32 in [0, 1], head up, dense tissue bright.
    """
    rng = np.random.default_rng(key)
    pose, beam = draw_pose(rng), draw_beam(rng)
    paths, depths = slab_paths(volume_hu, spacing[1], beam.bone_factor)
    pixel = (spacing[0], spacing[2])
    return expose(view(paths[:, ::-1], depths, pixel, pose), pixel, beam, rng)


def slab_paths(volume_hu: Array, depth_mm: float, bone_factor: float) -> tuple[Array, Array]:
    """Water path of each of `SLABS` coronal slabs, (S, Z, X) float32 mm, and their y in mm.

    Sums run over integers: exact, so their order cannot change a bit.
    """
    edges = np.linspace(0, volume_hu.shape[1], min(SLABS, volume_hu.shape[1]) + 1).astype(int)
    paths = []
    for start, stop in pairwise(edges):
        part = volume_hu[:, start:stop]
        tissue = np.maximum(part, -1000).sum(axis=1, dtype=np.int64) + 1000 * (stop - start)
        mineral = np.maximum(part, BONE_HU).sum(axis=1, dtype=np.int64) - BONE_HU * (stop - start)
        paths.append((tissue + (bone_factor - 1.0) * mineral) * (depth_mm / 1000.0))
    depths = (0.5 * (edges[:-1] + edges[1:]) - 0.5 * volume_hu.shape[1]) * depth_mm
    return np.stack(paths).astype(np.float32), depths


def view(paths: Array, depths: Array, spacing: tuple[float, float], pose: Pose) -> Image:
    """Sum slabs (S, H, W) as seen from the tube: one affine map a slab (shear-warp).

    A slab at depth y appears magnified by source / (source - y) and moved by its share of pitch
    and yaw (Lacroute and Levoy, 1994). What lies outside the volume repeats its border.
    """
    pixel = np.array(spacing)
    centre = 0.5 * (np.array(paths.shape[1:]) - 1.0)
    cos, sin = np.cos(pose.roll), np.sin(pose.roll)
    turn = np.array([[cos, sin], [-sin, cos]])
    total = np.zeros(paths.shape[1:], dtype=np.float32)
    for path, depth in zip(paths, depths, strict=True):
        scale = pose.zoom * pose.source_mm / (pose.source_mm - float(depth))
        matrix = turn / scale * pixel[None, :] / pixel[:, None]
        moved = np.array(pose.shift_mm) + float(depth) * np.array([pose.pitch, pose.yaw])
        offset = centre - _apply(matrix, centre + moved / pixel)
        total += ndimage.affine_transform(path, matrix, offset, order=1, mode="nearest")
    return total


def _apply(matrix: Array, vector: Array) -> Array:
    """Matrix times vector without BLAS, whose sums may differ between machines' kernels."""
    product: Array = (matrix * vector[None, :]).sum(axis=1)
    return product


def expose(
    path: Array, spacing: tuple[float, float], beam: Beam, rng: np.random.Generator
) -> Image:
    """Detect and display a water path.

    Args:
        path: (H, W) in mm of water.
        spacing: mm per pixel.
        beam: tube, grid, detector, display.
        rng: for the quantum noise.

    Returns:
        (H, W) float32 in [0, 1], dense tissue bright, direct exposure black.
    """
    attenuation = beam.water_per_mm * path.astype(np.float64)
    soft, hard = 1.0 + beam.hardening, 1.0 - beam.hardening
    primary = 0.5 * (np.exp(-soft * attenuation) + np.exp(-hard * attenuation))
    signal = ndimage.gaussian_filter(primary, beam.blur_px, mode="nearest")
    # Once-scattered photons, p exp(-p): none from air, and most from the lungs' margins.
    signal += beam.scatter * _spread(attenuation * primary, beam.scatter_mm, spacing)
    amplitude, frequency = beam.grid_lines
    lines = amplitude * np.sin(2.0 * np.pi * frequency * np.arange(path.shape[1]))
    heel = 1.0 - beam.heel * np.linspace(0.0, 1.0, path.shape[0])
    signal *= (1.0 + lines)[None, :] * heel[:, None]
    counts = rng.poisson(beam.photons * signal)
    density = -np.log(np.maximum(counts, 1.0) / beam.photons)
    return _display(density, spacing, beam)


def _display(density: Array, spacing: tuple[float, float], beam: Beam) -> Image:
    """Window, local contrast and gamma, as a digital radiograph is shown."""
    strength, scale_mm = beam.detail
    exposed = density >= 0.08 * np.percentile(density, 95.0)  # the rest is beside the patient
    smooth = _spread(np.where(exposed, density, 0.0), scale_mm, spacing)
    share = np.maximum(_spread(exposed.astype(np.float64), scale_mm, spacing), 1e-3)
    enhanced = density + strength * np.where(exposed, density - smooth / share, 0.0)
    low, high = np.percentile(enhanced[exposed], (5.0, 90.0))  # the lungs' end of the range
    scaled = np.maximum((enhanced - low) / max(high - low, 1e-6), 0.0) ** beam.gamma
    shown: Image = (1.0 - np.exp(-1.6 * scaled)).astype(np.float32)  # a shoulder, as film has
    return shown


def _spread(image: Array, sigma_mm: float, spacing: tuple[float, float]) -> Array:
    """A wide Gaussian blur as three box filters, whose cost does not grow with the width."""
    boxes = [max(1, round(2.0 * sigma_mm / side) | 1) for side in spacing]  # 3 boxes: w = 2 sigma
    for _ in range(3):
        image = ndimage.uniform_filter(image, boxes, mode="nearest")
    return image
