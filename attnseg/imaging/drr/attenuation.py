"""From Hounsfield units to linear attenuation."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from attnseg.config.drr import AttenuationConfig

AIR_HU = -1000.0


def attenuation_per_mm(
    config: AttenuationConfig, voxels: Tensor, depth_mm: float
) -> Callable[[Tensor], Tensor]:
    """The function that turns HU into attenuation per mm, float32, never negative.

    Args:
        config: see conf/projection/.
        voxels: the whole volume in HU; `range` asks for its least and greatest.
        depth_mm: side of a voxel from front to back; `range` is defined per such voxel.
    """
    floor = config.air_below_hu
    if config.kind == "range":
        low, high = (float(value) for value in torch.aminmax(voxels))
        if floor is not None and low <= floor:  # what lies at or below it will be air
            low = AIR_HU
        scale = config.largest_per_voxel / max(high - low, 1e-6) / depth_mm
        return lambda hu: _line(hu, scale, low, floor)

    def water(hu: Tensor) -> Tensor:
        mu = _line(hu, config.water_per_mm / 1000.0, AIR_HU, floor)
        if config.bone_factor > 1.0:
            slope = (config.bone_factor - 1.0) * config.water_per_mm / 1000.0
            mu += _line(hu, slope, config.bone_from_hu, None)
        return mu

    return water


def _line(hu: Tensor, slope: float, zero: float, floor: float | None) -> Tensor:
    """slope x (HU - zero) float32, 0 where that is negative or HU at or below the floor.

    In as few passes over memory as can be: that is what projecting costs.
    """
    offset = torch.tensor(-slope * zero, dtype=torch.float32, device=hu.device)
    values = torch.add(offset, hu, alpha=slope)
    # A thousandth of a HU of margin: rounding must not lift the floor's own voxels over it.
    least = 0.0 if floor is None else max(0.0, slope * (floor + 1e-3 - zero))
    return F.threshold(values, least, 0.0, inplace=True)
