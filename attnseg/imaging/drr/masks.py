"""Nodules projected by the DRR's own rays: mask, thickness, labels.

A ray samples every slice at the nearest voxel, so a pixel's thickness is the length of its ray
inside nodules, its mask whether that is more than 0, its label the nodule that the ray is longest
in (the lower number in a tie). Where nodules overlap in the image, the thinner one's pixels thus
belong to the thicker; thickness counts both.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy import ndimage

from attnseg.imaging.drr.geometry import Geometry
from attnseg.imaging.drr.integrals import Field, Rays, line_integrals
from attnseg.imaging.drr.volume import Array, Volume

MakeRays = Callable[[Volume, Geometry, tuple[slice, slice]], Rays]


@dataclass(frozen=True, eq=False)
class ProjectedNodules:
    """Nodules on the DRR's grid.

    Attributes:
        thickness: (H, W) float32 mm.
        labels: (H, W) uint16, 0 where no nodule is.
        missed: numbers of the nodules that no ray meets: beside the detector, or between rays.
    """

    thickness: Array
    labels: Array
    missed: tuple[int, ...]

    @property
    def mask(self) -> Array:
        """(H, W) uint8 0/1."""
        return (self.thickness > 0.0).astype(np.uint8)


def project_nodules(
    nodules: Volume, geometry: Geometry, make_rays: MakeRays, chunk_mb: int = 32
) -> ProjectedNodules:
    """Project a label volume.

    Args:
        nodules: (Z, Y, X) integers, 0 outside nodules, else a nodule's number (up to 65535).
        geometry: of the DRR.
        make_rays: the rays of a rectangle of pixels, in a volume's indices.
        chunk_mb: memory to work in.
    """
    thickness = np.zeros(geometry.shape, dtype=np.float32)
    thickest = np.zeros_like(thickness)
    labels = np.zeros(geometry.shape, dtype=np.uint16)
    missed = []
    for number, box in _boxes(nodules.voxels):
        part = nodules.cropped(box)
        where = _rectangle(part, geometry)
        if where is None:
            missed.append(number)
            continue
        voxels = torch.from_numpy((part.voxels == number).astype(np.uint8))
        rays = make_rays(part, geometry, where)
        path = line_integrals(Field(voxels), rays, "nearest", chunk_mb)
        found = path.cpu().numpy().reshape(thickness[where].shape)
        if not found.any():
            missed.append(number)
        thickness[where] += found
        labels[where][found > thickest[where]] = number
        np.maximum(thickest[where], found, out=thickest[where])
    return ProjectedNodules(thickness, labels, tuple(missed))


def number_nodules(voxels: Array, kind: str) -> Array:
    """A label volume (uint16): the values themselves, or 26-connected components."""
    if kind == "values":
        return voxels.astype(np.uint16)
    numbered: Array = np.zeros(voxels.shape, dtype=np.uint16)
    boxes = ndimage.find_objects((voxels > 0).astype(np.uint8))
    for box in boxes:  # one, or none: most of a chest is no nodule
        labels, _ = ndimage.label(voxels[box], structure=np.ones((3, 3, 3), dtype=bool))
        numbered[box] = labels
    return numbered


def describe_nodules(
    nodules: Volume, geometry: Geometry, projected: ProjectedNodules
) -> list[dict[str, Any]]:
    """A row a nodule: where it is in the CT and in the DRR, how large it is in both."""
    voxel_mm3 = float(np.prod(nodules.spacing))
    rows = []
    for number, box in _boxes(nodules.voxels):
        part = nodules.cropped(box)
        index = np.argwhere(part.voxels == number)
        centre = part.to_world(index.mean(axis=0))
        pixels = np.argwhere(projected.labels == number)
        rows.append(
            {
                "label": number,
                "centre_lps_mm": [round(float(value), 3) for value in centre],
                "centre_px": [round(float(v), 3) for v in geometry.world_to_pixel(centre)],
                "volume_mm3": round(len(index) * voxel_mm3, 3),
                "diameter_mm": round((6.0 * len(index) * voxel_mm3 / np.pi) ** (1.0 / 3.0), 3),
                "pixels": len(pixels),
                "box_px": [*pixels.min(axis=0).tolist(), *pixels.max(axis=0).tolist()]
                if len(pixels)
                else None,
            }
        )
    return rows


def _boxes(voxels: Array) -> list[tuple[int, tuple[slice, ...]]]:
    return [
        (number, box)
        for number, box in enumerate(ndimage.find_objects(voxels), start=1)
        if box is not None
    ]


def _rectangle(part: Volume, geometry: Geometry) -> tuple[slice, slice] | None:
    """The pixels that can see a box, or None where the detector has none."""
    seen = geometry.world_to_pixel(part.corners())
    low = np.maximum(np.floor(seen.min(axis=0)).astype(int) - 1, 0)
    high = np.minimum(np.ceil(seen.max(axis=0)).astype(int) + 2, geometry.shape)
    if (low >= high).any():
        return None
    return slice(int(low[0]), int(high[0])), slice(int(low[1]), int(high[1]))
