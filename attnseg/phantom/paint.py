"""A CT volume of HU and the brushes that organs are painted with, each in its bounding box."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from attnseg.phantom.shapes import Array, Capsule, Ellipsoid, Interval
from attnseg.phantom.vessels import Vessels

Box = tuple[slice, slice, slice]


class Grid(NamedTuple):
    """Voxel centres in mm: open axes (Z, 1, 1), (1, Y, 1), (1, 1, X) of float32."""

    z: Array
    y: Array
    x: Array
    spacing: tuple[float, float, float]

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels along z, y and x."""
        return (self.z.size, self.y.size, self.x.size)

    def box(self, low: Array, high: Array) -> Box:
        """Slices of the voxels whose centres lie between two corners in mm, clipped."""
        slices = []
        for axis, step, first, last in zip(self[:3], self.spacing, low, high, strict=True):
            origin = float(axis.flat[0])
            start = min(max(int(np.ceil((first - origin) / step)), 0), axis.size)
            stop = min(max(int(np.floor((last - origin) / step)) + 1, start), axis.size)
            slices.append(slice(start, stop))
        return (slices[0], slices[1], slices[2])

    def axes(self, box: Box) -> tuple[Array, Array, Array]:
        """The open axes inside a box."""
        return self.z[box[0]], self.y[:, box[1]], self.x[:, :, box[2]]

    def rays(self) -> tuple[Array, Array]:
        """(Z, 1) and (1, X): where the rays along y run."""
        return self.z[:, 0, :], self.x[0]


def make_grid(shape: tuple[int, int, int], spacing: tuple[float, float, float]) -> Grid:
    """A grid centred on the origin."""
    axes = [
        (np.arange(count, dtype=np.float32) - np.float32(0.5 * (count - 1))) * np.float32(step)
        for count, step in zip(shape, spacing, strict=True)
    ]
    return Grid(axes[0][:, None, None], axes[1][None, :, None], axes[2][None, None, :], spacing)


def fill_interval(volume: Array, grid: Grid, interval: Interval, hu: float | Array) -> None:
    """Set what lies inside an interval (Z, X); the voxels at its two ends in proportion.

    `hu` is one value or one a ray, (Z, X).
    """
    step, origin = grid.spacing[1], float(grid.y.flat[0]) - 0.5 * grid.spacing[1]
    front, back = np.broadcast_arrays(interval.front, interval.back)
    rows, columns = np.nonzero(front < back)
    if rows.size == 0:
        return
    top = grid.y.size * 1.0
    first = np.clip((front[rows, columns] - origin) / step, 0.0, top)
    last = np.clip((back[rows, columns] - origin) / step, 0.0, top)
    values = np.broadcast_to(np.asarray(hu, dtype=np.float32), front.shape)
    start, stop = np.full(front.shape, top, np.int16), np.zeros(front.shape, np.int16)
    start[rows, columns], stop[rows, columns] = np.ceil(first), np.floor(last)
    box = _bounds(rows, columns, first, last)
    depth = np.arange(box[1].start, box[1].stop, dtype=np.int16)[None, :, None]
    inside = depth >= start[box[0], None, box[2]]
    inside &= depth < stop[box[0], None, box[2]]
    np.copyto(volume[box], values[box[0], None, box[2]].astype(np.int16), where=inside)
    for voxel, cover in _ends(first, last):
        some = cover > 0.0
        at = (rows[some], voxel[some], columns[some])
        under = volume[at].astype(np.float32)
        volume[at] = np.rint(under + cover[some] * (values[rows[some], columns[some]] - under))


def _bounds(rows: Array, columns: Array, first: Array, last: Array) -> Box:
    return (
        slice(int(rows.min()), int(rows.max()) + 1),
        slice(int(first.min()), int(np.ceil(last.max()))),
        slice(int(columns.min()), int(columns.max()) + 1),
    )


def _ends(first: Array, last: Array) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
    """The voxels partly covered at the front and the back, and their shares."""
    low, high = np.floor(first), np.floor(last)
    within = low == high  # both ends in one voxel: counted once, at the front
    front = np.where(within, last - first, (np.ceil(first) - first))
    back = np.where(within, 0.0, last - high)
    return (low.astype(np.intp), front), (high.astype(np.intp), back)


def fill_ellipsoid(volume: Array, grid: Grid, ellipsoid: Ellipsoid, hu: float) -> None:
    """Set what lies inside an ellipsoid."""
    fill_interval(volume, grid, ellipsoid.interval(*grid.rays()), hu)


def capsule_box(grid: Grid, capsule: Capsule, margin: float = 0.0) -> Box:
    """The box around a capsule, grown by `margin` mm."""
    ends = np.array([capsule.start, capsule.end])
    reach = max(capsule.start_radius, capsule.end_radius) + margin
    return grid.box(ends.min(axis=0) - reach, ends.max(axis=0) + reach)


def fill_capsule(volume: Array, grid: Grid, capsule: Capsule, hu: float) -> None:
    """Set what lies inside a capsule, its surface over 2 mm."""
    box = capsule_box(grid, capsule, margin=1.0)
    mix(volume, box, cover(capsule.depth(*grid.axes(box)), 2.0), hu)


def fill_bone(volume: Array, grid: Grid, capsule: Capsule, cortex_hu: float) -> None:
    """Paint a long bone: a cortex of 2 mm around marrow."""
    box = capsule_box(grid, capsule, margin=1.0)
    depth = capsule.depth(*grid.axes(box))
    mix(volume, box, cover(depth, 2.0), cortex_hu)
    mix(volume, box, cover(depth - np.float32(2.5), 2.0), 0.3 * cortex_hu)


def add_vessels(
    volume: Array, grid: Grid, vessels: Vessels, hu: float, where: Array, edge: float = 2.0
) -> None:
    """Raise voxels to `hu` where vessels cover them, inside `where` only.

    All pieces at once, over the voxels of all their boxes end to end: hundreds of pieces of a
    few voxels each would cost more in calls than in arithmetic.
    """
    reach = np.maximum(vessels.start_radius, vessels.end_radius)[:, None] + np.float32(0.5 * edge)
    origin = np.array([float(axis.flat[0]) for axis in grid[:3]], dtype=np.float32)
    step, shape = np.array(grid.spacing, dtype=np.float32), np.array(grid.shape)
    low = np.minimum(vessels.start, vessels.end) - reach
    high = np.maximum(vessels.start, vessels.end) + reach
    first = np.clip(np.ceil((low - origin) / step).astype(np.int32), 0, shape)
    sides = np.clip(np.floor((high - origin) / step).astype(np.int32) + 1, first, shape) - first
    counts = sides.prod(axis=1)
    piece = np.repeat(np.arange(len(counts)), counts)
    number = np.arange(counts.sum()) - np.repeat(counts.cumsum() - counts, counts)
    number, ix = np.divmod(number, sides[piece, 2])
    iz, iy = np.divmod(number, sides[piece, 1])
    index = [i + first[piece, axis] for axis, i in enumerate((iz, iy, ix))]
    inside = where[index[0], index[1], index[2]]
    piece, index = piece[inside], [i[inside] for i in index]
    point = [axis.ravel()[i] for axis, i in zip(grid[:3], index, strict=True)]
    share = cover(_piece_depth(vessels, piece, point), edge)
    at = (index[0] * shape[1] + index[1]) * shape[2] + index[2]
    flat = volume.reshape(-1)
    under = flat[at]
    painted = under + np.rint(share * (np.float32(hu) - under)).astype(np.int16)
    np.maximum.at(flat, at, painted)


def _piece_depth(vessels: Vessels, piece: Array, point: list[Array]) -> Array:
    """Depth in mm of each point below the surface of its piece of vessel."""
    axis = vessels.end - vessels.start
    length2 = np.maximum(np.square(axis).sum(axis=1), np.float32(1e-6))
    offsets = [p - vessels.start[piece, k] for k, p in enumerate(point)]
    along = sum(o * axis[piece, k] for k, o in enumerate(offsets)) / length2[piece]
    t = np.clip(along, 0.0, 1.0)
    distance2 = sum((o - t * axis[piece, k]) ** 2 for k, o in enumerate(offsets))
    growth = vessels.end_radius - vessels.start_radius
    depth: Array = vessels.start_radius[piece] + t * growth[piece] - np.sqrt(distance2)
    return depth


def cover(depth: Array, edge: float) -> Array:
    """Share of a voxel that is covered: half where `depth` is 0, from 0 to 1 over `edge` mm."""
    share: Array = np.clip(depth * np.float32(1.0 / edge) + np.float32(0.5), 0.0, 1.0)
    return share


def mix(volume: Array, box: Box, share: Array, hu: float | Array) -> None:
    """Replace a share of each voxel in the box by `hu`."""
    under = volume[box]
    under += np.rint(share * (np.asarray(hu, dtype=np.float32) - under)).astype(np.int16)


def add(volume: Array, box: Box, share: Array, hu: float) -> None:
    """As `mix`, but never lowering a voxel: vessels and nodules do not carve each other."""
    under = volume[box]
    painted = under + np.rint(share * (np.float32(hu) - under)).astype(np.int16)
    np.maximum(under, painted, out=under)
