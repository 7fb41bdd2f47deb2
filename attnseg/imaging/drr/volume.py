"""A CT (or a mask) with its place in the patient."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Vector = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Volume:
    """Voxels and where they are, in mm of the patient: LPS (left, posterior, superior), as DICOM.

    Attributes:
        voxels: (Z, Y, X); z rises towards the head, y towards the back, x towards the left, each
            as nearly as the scanner's axes allow.
        origin: (3,) LPS of the centre of voxel (0, 0, 0).
        steps: (3, 3) LPS from a voxel to the next along z, y and x.
    """

    voxels: Array
    origin: Vector
    steps: Vector

    @property
    def spacing(self) -> tuple[float, float, float]:
        """mm per voxel along z, y and x."""
        z, y, x = np.linalg.norm(self.steps, axis=1)
        return float(z), float(y), float(x)

    @property
    def centre(self) -> Vector:
        """LPS of the middle."""
        return self.to_world((np.array(self.voxels.shape) - 1.0) / 2.0)

    def to_world(self, index: Any) -> Vector:
        """(..., 3) indices (z, y, x), whole numbers at voxel centres, to LPS mm."""
        points: Vector = np.asarray(index, dtype=np.float64) @ self.steps + self.origin
        return points

    def to_index(self, points: Any) -> Vector:
        """(..., 3) LPS mm to indices (z, y, x)."""
        shifted = np.asarray(points, dtype=np.float64) - self.origin
        index: Vector = shifted @ np.linalg.inv(self.steps)
        return index

    def corners(self) -> Vector:
        """(8, 3) LPS of the box that holds every voxel whole."""
        ends = [(-0.5, side - 0.5) for side in self.voxels.shape]
        return self.to_world(np.array(list(product(*ends))))

    def cropped(self, box: tuple[slice, ...]) -> Volume:
        """A part, where it was."""
        starts = [part.indices(side)[0] for part, side in zip(box, self.voxels.shape, strict=True)]
        return replace(self, voxels=self.voxels[box], origin=self.to_world(starts))

    def record(self) -> dict[str, Any]:
        """The grid in plain types, axes in the order x, y, z (as files have them)."""
        spacing = self.spacing
        direction = (self.steps / np.array(spacing)[:, None])[::-1]
        return {
            "size_xyz": list(self.voxels.shape[::-1]),
            "spacing_xyz_mm": [_tidy(value) for value in spacing[::-1]],
            "origin_lps_mm": [_tidy(value) for value in self.origin],
            "axes_xyz_lps": [[_tidy(value) for value in axis] for axis in direction],
        }


def same_grid(one: Volume, other: Volume, tolerance: float = 0.1) -> bool:
    """Whether all corners agree within that share of the smallest voxel side: headers round."""
    if one.voxels.shape != other.voxels.shape:
        return False
    apart = np.abs(one.corners() - other.corners()).max()
    return bool(apart <= tolerance * min(one.spacing))


def _tidy(value: float) -> float:
    """Without the noise of the last bits, and no -0."""
    return round(float(value), 9) + 0.0
