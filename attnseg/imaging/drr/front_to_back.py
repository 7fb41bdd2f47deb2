"""The phantom's projection: parallel rays front to back along the voxel axis, in whole numbers.

What `integrals` does along an axis, without its floating-point sums: HU are integers, their sum
is exact, and so a phantom's image is the same bytes on every machine and with every number of
threads. A test holds the two together.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from attnseg.config.drr import DisplayConfig
from attnseg.imaging.drr.clahe import equalize_locally
from attnseg.imaging.drr.display import Image, develop

Array = npt.NDArray[Any]
Mask = npt.NDArray[np.uint8]

AIR_BELOW_HU = -500.0
WATER_PER_MM = 0.00035
"""The published 0.001 a voxel at the volume's maximum is about this: so weak that the image is
nearly the plain line integral."""

DISPLAY = DisplayConfig(
    signal="intensity", percentiles=(1.0, 99.0), window=None, clahe_clip=0.03, blur_px=0.5
)
"""As projection=lidc_drr."""


@dataclass(frozen=True)
class FrontToBack:
    """A DRR with the pixels of the volume's rows and columns.

    Attributes:
        image: (Z, X) float32 in [0, 1], head up, dense tissue bright.
        mask: (Z, X) uint8 0/1: pixels whose ray meets the masked volume.
        spacing: mm per pixel, row and column.
    """

    image: Image
    mask: Mask
    spacing: tuple[float, float]


def project_front_to_back(
    volume_hu: Array, spacing: tuple[float, float, float], mask: Array
) -> FrontToBack:
    """Project a volume along y.

    Args:
        volume_hu: (Z, Y, X) in HU; z rises towards the head, y towards the back, x to the left.
        spacing: mm per voxel along z, y and x.
        mask: (Z, Y, X), non-zero inside the structure to project by the same rays.
    """
    assert volume_hu.ndim == 3, f"a volume has three axes, not {volume_hu.ndim}"
    assert mask.shape == volume_hu.shape, "mask and volume on different grids"
    path = water_path(volume_hu, spacing[1], AIR_BELOW_HU)
    image, _ = develop(WATER_PER_MM * path.astype(np.float64), DISPLAY, equalize_locally)
    return FrontToBack(
        image=np.ascontiguousarray(image[::-1]),
        mask=np.any(mask, axis=1).astype(np.uint8)[::-1].copy(),
        spacing=(spacing[0], spacing[2]),
    )


def water_path(volume_hu: Array, depth_mm: float, air_below_hu: float = -1000.0) -> Image:
    """Line integral along y in mm of water: sum of (1 + HU / 1000) x depth_mm, (Z, X) float32.

    Voxels at or below `air_below_hu` count as air. HU are rounded to integers and summed as
    such: exact, so the order of the sum cannot change a bit.
    """
    hu = volume_hu if np.issubdtype(volume_hu.dtype, np.integer) else np.rint(volume_hu)
    floor = np.int16(np.floor(max(air_below_hu, -1000.0)))
    shifted = np.add(hu, 1000, dtype=np.int16, casting="unsafe")
    shifted *= hu > floor
    total = shifted.sum(axis=1, dtype=np.int64)
    path: Image = (total * (depth_mm / 1000.0)).astype(np.float32)
    return path
