"""Mask volumes: NIfTI, MHA or NRRD on the CT's grid; nodules are what touches in them.

Any value above 0 is inside (a binary mask, or a number for each nodule); in a volume that counts
readers, `at_least` chooses how many must have marked a voxel.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy import ndimage

from attnseg.common.errors import DataError
from attnseg.imaging.annotations.grid import Grid, read_grid
from attnseg.imaging.annotations.nodule import Annotations, Nodule, Voxels
from attnseg.imaging.itk import opened

_CONNECTED_26 = np.ones((3, 3, 3), dtype=bool)
_TOLERANCE_MM = 1e-2


def read_mask_volume(path: Path, grid: Grid, *, at_least: int = 1) -> Annotations:
    """The nodules of a mask volume.

    Args:
        path: the mask.
        grid: of the CT, on which it has to be.
        at_least: smallest value that counts as inside.

    Raises:
        DataError: unreadable, on another grid, or no mask: negative or broken values.
    """
    mine = read_grid(path)
    if difference := _difference(mine, grid):
        raise DataError(f"{path}: is on another grid than the CT: {difference}; resample it")
    import SimpleITK as sitk

    try:
        with opened(path, image=False) as reader:
            values = sitk.GetArrayFromImage(reader.Execute())
    except RuntimeError:
        raise DataError(f"{path}: cannot be decoded; it is truncated, or no image") from None
    if values.ndim != 3 or (values < 0).any() or (values != np.floor(values)).any():
        raise DataError(f"{path}: no mask; its values must be whole numbers from 0")
    inside = values >= at_least
    if not inside.any() and values.any():
        raise DataError(
            f"{path}: no voxel has {at_least} votes; its highest value is {values.max():g}"
        )
    labels, _ = ndimage.label(inside, structure=_CONNECTED_26)
    nodules = []
    for number, box in enumerate(ndimage.find_objects(labels), start=1):
        corner = (box[0].start, box[1].start, box[2].start)
        nodules.append(Nodule(str(number), Voxels(labels[box] == number, corner)))
    return Annotations(tuple(nodules))


def _difference(mine: Grid, theirs: Grid) -> str:
    """What differs between two grids, in words; blank where nothing does."""
    if mine.size != theirs.size:
        return f"{mine.size} voxels, not {theirs.size}"
    for name in ("spacing", "origin", "direction"):
        a, b = np.array(getattr(mine, name)), np.array(getattr(theirs, name))
        if np.abs(a - b).max() > _TOLERANCE_MM:
            shown = (", ".join(f"{value:g}" for value in values) for values in (a, b))
            return f"{name} ({next(shown)}), not ({next(shown)})"
    return ""
