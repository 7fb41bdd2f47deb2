"""Where the ray of every pixel runs, and back: from the CT's millimetres to pixels of the DRR.

Points are LPS millimetres of the patient (left, posterior, superior), as in DICOM; pixels are
(row, column), whole numbers at their centres.

    geometry = Geometry.from_record(json.load(open("case_PA.json"))["geometry"])
    geometry.world_to_pixel((31.5, -80.2, -120.0))   # where a lesion of the CT is in the DRR
    start, direction = geometry.pixel_to_ray(210, 330)   # the lesion of a DRR lies on this line
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from attnseg.common.errors import DataError
from attnseg.config.drr import DetectorConfig, ProjectionConfig, ViewConfig
from attnseg.imaging.drr.volume import Vector, Volume


@dataclass(frozen=True, eq=False)
class Geometry:
    """Source, detector and patient of one DRR.

    Attributes:
        beam: parallel rays, or those of a point source.
        shape: rows and columns.
        corner: LPS of the centre of pixel (0, 0), on the detector.
        row_step, column_step: LPS from a pixel to the one below, and to the right; orthogonal.
        direction: unit vector of the central ray, from source to detector.
        depth_mm: from the source to the detector; parallel rays are this long.
        isocentre: LPS of the point that views turn about.
    """

    beam: Literal["parallel", "cone"]
    shape: tuple[int, int]
    corner: Vector
    row_step: Vector
    column_step: Vector
    direction: Vector
    depth_mm: float
    isocentre: Vector

    @property
    def source(self) -> Vector:
        """LPS of the point source (cone)."""
        assert self.beam == "cone", "parallel rays have no source"
        back: Vector = self._foot() - self.depth_mm * self.direction
        return back

    @property
    def magnification(self) -> float:
        """How much larger than in the isocentre's plane things are on the detector."""
        if self.beam == "parallel":
            return 1.0
        return float(self.depth_mm / ((self.isocentre - self.source) @ self.direction))

    @property
    def spacing(self) -> tuple[float, float]:
        """mm per pixel (row, column) in the isocentre's plane: the scale of what is in the CT."""
        rows, columns = np.linalg.norm(self.row_step), np.linalg.norm(self.column_step)
        return float(rows / self.magnification), float(columns / self.magnification)

    def world_to_pixel(self, points: Any) -> Vector:
        """(..., 3) LPS mm to (..., 2) row and column, of which the detector may hold none."""
        points = np.asarray(points, dtype=np.float64)
        depth = (points - self.corner) @ self.direction  # behind the detector's plane: positive
        if self.beam == "parallel":
            on_plane = points - depth[..., None] * self.direction
        else:
            share = self.depth_mm / (self.depth_mm + depth)
            on_plane = self.source + share[..., None] * (points - self.source)
        return self._pixels(on_plane)

    def pixel_to_ray(self, row: Any, column: Any) -> tuple[Vector, Vector]:
        """The ray of pixels: (..., 3) LPS of where it starts, and its unit direction."""
        start, end = self.ends(np.asarray(row, np.float64), np.asarray(column, np.float64))
        along = end - start
        return start, along / np.linalg.norm(along, axis=-1, keepdims=True)

    def ends(self, row: Vector, column: Vector) -> tuple[Vector, Vector]:
        """(..., 3) LPS of where rays leave the source, and of where they meet the detector."""
        end = self.corner + row[..., None] * self.row_step + column[..., None] * self.column_step
        if self.beam == "parallel":
            return end - self.depth_mm * self.direction, end
        return np.broadcast_to(self.source, end.shape), end

    def resized(self, shape: tuple[int, int]) -> Geometry:
        """The same detector divided into other pixels."""
        rows, columns = self.shape[0] / shape[0], self.shape[1] / shape[1]
        edge = self.corner - 0.5 * (self.row_step + self.column_step)
        row_step, column_step = self.row_step * rows, self.column_step * columns
        corner = edge + 0.5 * (row_step + column_step)
        return replace(self, shape=shape, corner=corner, row_step=row_step, column_step=column_step)

    def upside_down(self) -> Geometry:
        """The same pixels, the last row first."""
        corner = self.corner + (self.shape[0] - 1) * self.row_step
        return replace(self, corner=corner, row_step=-self.row_step)

    def record(self) -> dict[str, Any]:
        """Plain types that `from_record` reads."""
        record = {
            "beam": self.beam,
            "coordinates": "LPS mm (left, posterior, superior); pixel centres are whole numbers",
            "shape": list(self.shape),
            "corner": self.corner.tolist(),
            "row_step": self.row_step.tolist(),
            "column_step": self.column_step.tolist(),
            "direction": self.direction.tolist(),
            "depth_mm": self.depth_mm,
            "isocentre": self.isocentre.tolist(),
        }
        if self.beam == "cone":
            record |= {"source": self.source.tolist(), "magnification": self.magnification}
        return record

    @classmethod
    def from_record(cls, record: dict[str, Any]) -> Geometry:
        """What a sidecar's `geometry` says."""
        vectors = ("corner", "row_step", "column_step", "direction", "isocentre")
        return cls(
            beam=record["beam"],
            shape=(record["shape"][0], record["shape"][1]),
            depth_mm=float(record["depth_mm"]),
            **{name: np.array(record[name], dtype=np.float64) for name in vectors},
        )

    def _foot(self) -> Vector:
        """LPS of where the central ray meets the detector: below the isocentre."""
        foot: Vector = (
            self.isocentre + ((self.corner - self.isocentre) @ self.direction) * self.direction
        )
        return foot

    def _pixels(self, on_plane: Vector) -> Vector:
        offset = on_plane - self.corner
        steps = np.stack([self.row_step, self.column_step], axis=1)
        pixels: Vector = (offset @ steps) / (steps**2).sum(axis=0)
        return pixels


def view_axes(view: ViewConfig) -> tuple[Vector, Vector, Vector]:
    """Unit vectors of a view: the beam, the image's columns (to the right) and rows (down)."""
    angle, tilt = np.deg2rad(view.angle_deg), np.deg2rad(view.tilt_deg)
    sin, cos = np.sin(angle), np.cos(angle)
    beam = np.array([np.cos(tilt) * sin, -np.cos(tilt) * cos, np.sin(tilt)])
    columns = np.array([cos, sin, 0.0])
    up = np.array([-np.sin(tilt) * sin, np.sin(tilt) * cos, np.cos(tilt)])
    mirror = bool(np.round(cos, 9) < 0.0) if view.mirror is None else view.mirror
    return _snapped(beam), _snapped(-columns if mirror else columns), _snapped(-up)


def build_geometry(projection: ProjectionConfig, view: ViewConfig, volume: Volume) -> Geometry:
    """The geometry of one view of a CT.

    Raises:
        DataError: the source would lie inside the CT.
    """
    if projection.detector.grid == "voxels":
        return _one_ray_a_voxel(view, volume)
    beam, columns, rows = view_axes(view)
    configured = projection.isocentre_mm
    isocentre = volume.centre if configured is None else np.array(configured)
    corners = volume.corners()
    depth = (corners - isocentre) @ beam
    if projection.beam == "parallel":
        to_detector = float(depth.max()) + 10.0
        depth_mm = to_detector - float(depth.min()) + 10.0
    else:
        depth_mm = projection.source_detector_mm
        to_detector = depth_mm - projection.source_isocentre_mm
        _refuse_inside(depth, projection)
    pixel = projection.detector.pixel_mm or volume.spacing[2]
    geometry = Geometry(
        beam=projection.beam,
        shape=(1, 1),
        corner=isocentre + to_detector * beam,
        row_step=pixel * rows,
        column_step=pixel * columns,
        direction=beam,
        depth_mm=depth_mm,
        isocentre=isocentre,
    )
    return _with_pixels(geometry, projection.detector, corners)


def _with_pixels(geometry: Geometry, detector: DetectorConfig, corners: Vector) -> Geometry:
    """As many pixels as configured around the isocentre, or as see all corners."""
    seen = geometry.world_to_pixel(corners)
    if detector.size is not None:
        shape, first = detector.size, -(np.array(detector.size) - 1.0) / 2.0
    else:
        low, high = seen.min(axis=0), seen.max(axis=0)
        counts = np.maximum(np.ceil(np.round(high - low, 3)), 1.0)
        shape = (int(counts[0]), int(counts[1]))
        first = (low + high) / 2.0 - (counts - 1.0) / 2.0
    corner = geometry.corner + first[0] * geometry.row_step + first[1] * geometry.column_step
    return replace(geometry, shape=shape, corner=corner)


def _one_ray_a_voxel(view: ViewConfig, volume: Volume) -> Geometry:
    """Rays through the voxel centres, along the volume's own y axis; slice 0 is row 0."""
    slices, depth, columns = volume.voxels.shape
    _, to_right, _ = view_axes(view)
    along = volume.steps[1] / volume.spacing[1]
    beam = along if np.cos(np.deg2rad(view.angle_deg)) < 0.0 else -along
    right = float(np.sign(volume.steps[2] @ to_right))
    length = volume.spacing[1] * depth
    first = np.array([0.0, (depth - 1.0) / 2.0, 0.0 if right > 0 else columns - 1.0])
    return Geometry(
        beam="parallel",
        shape=(slices, columns),
        corner=volume.to_world(first) + (length / 2.0 + 10.0) * beam,
        row_step=volume.steps[0],
        column_step=right * volume.steps[2],
        direction=beam,
        depth_mm=length + 20.0,
        isocentre=volume.centre,
    )


def _refuse_inside(depth: Vector, projection: ProjectionConfig) -> None:
    """A detector may cut the CT's corners, which are air: rays go on through them."""
    before = projection.source_isocentre_mm
    if depth.min() <= -before:
        raise DataError(
            f"the source would be inside the CT, which reaches {-float(depth.min()):.0f} mm from "
            f"the isocentre towards it; projection.source_isocentre_mm={before:g} is too little"
        )


def _snapped(vector: Vector) -> Vector:
    """Without the noise of sines of whole quarters."""
    snapped: Vector = np.round(vector, 15) + 0.0
    return snapped
