"""`attnseg data mask`: annotations of a CT as a mask volume on the CT's grid."""

from __future__ import annotations

from collections.abc import Sequence

from attnseg.config import DataMaskConfig
from attnseg.config.compose import compose_checked


def mask(overrides: Sequence[str]) -> int:
    """Write the mask of one CT, or of every CT of a folder, and say where. Returns 0."""
    config = compose_checked("data_mask", overrides, DataMaskConfig)
    from attnseg.imaging.annotations.convert import convert

    written = convert(config)
    for path, voxels, nodules in written:
        print(f"mask volume: {path} ({nodules} nodules, {voxels} voxels, readers={config.readers})")
    return 0
