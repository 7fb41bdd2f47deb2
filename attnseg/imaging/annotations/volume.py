"""Annotations in a CT as a mask volume on the CT's own grid.

Rules, each tested:
- an outline's own pixels are outside the nodule (LIDC's edge maps), what it encloses is inside;
  holes (inclusion FALSE) take their outline with them; a nodule whose outlines enclose nothing
  gets the outlines' pixels, so that no nodule vanishes;
- a slice is found by its SOP Instance UID where the CT has them, else by the nearest z;
- a ball is every voxel whose centre is within the radius, and the voxel at its centre;
- readers are combined voxel by voxel (`combine`).
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from attnseg.common.errors import DataError
from attnseg.imaging.annotations.combine import by_reader, votes_needed
from attnseg.imaging.annotations.fill import Mask, fill, outline, paste
from attnseg.imaging.annotations.grid import Grid
from attnseg.imaging.annotations.nodule import Annotations, Ball, Contour, Contours, Nodule, Voxels

_CONNECTED_26 = np.ones((3, 3, 3), dtype=bool)


def annotations_to_volume(
    annotations: Annotations, grid: Grid, *, readers: str | int = "union", name: str
) -> npt.NDArray[np.uint8]:
    """The combined mask, (z, y, x) 0/1 on the CT's grid.

    Args:
        annotations: in a CT; see `combine.chosen` for leaving out small nodules and points.
        grid: of the CT.
        readers: union, majority, all, or how many readers must agree on a voxel.
        name: what messages call the annotations.

    Raises:
        ConfigError: the level is none, or asks for more readers than there are.
        DataError: lists every mark that is not in this CT.
    """
    ours, theirs = annotations.series_uid, grid.series_uid
    if ours and theirs and ours != theirs:
        raise DataError(f"{name}: is of the series {ours}, but the CT is the series {theirs}")
    groups = by_reader(annotations, name, readers)
    needed = votes_needed(readers, len(groups), name)
    problems: list[str] = []
    votes = np.zeros(grid.size[::-1], dtype=np.uint8)
    for nodules in groups:
        marked = np.zeros(votes.shape, dtype=bool)
        for nodule in nodules:
            problems += _draw(marked, nodule, grid, name)
        votes += marked
    if problems:
        raise DataError(
            f"{name}: has marks that are not in this CT:", list(dict.fromkeys(problems))
        )
    return (votes >= needed).astype(np.uint8)


def label_nodules(mask: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint16]:
    """Number the nodules of a mask volume from 1: voxels that touch, at a corner too, are one."""
    labels, _ = ndimage.label(mask, structure=_CONNECTED_26)
    return labels.astype(np.uint16)  # type: ignore[no-any-return]


def write_volume(path: Path, volume: npt.NDArray[np.generic], grid: Grid) -> None:
    """Write a volume (z, y, x) on a CT's grid, atomically, in the format of the name's ending."""
    import SimpleITK as sitk

    image = sitk.GetImageFromArray(volume)
    image.SetSpacing(grid.spacing)
    image.SetOrigin(grid.origin)
    image.SetDirection(grid.direction)
    path.parent.mkdir(parents=True, exist_ok=True)
    # ITK picks the format by the ending, so the temporary name must keep it.
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".writing-") as folder:
        temporary = Path(folder) / path.name
        sitk.WriteImage(image, str(temporary), useCompression=True)
        temporary.replace(path)


def _draw(marked: Mask, nodule: Nodule, grid: Grid, name: str) -> list[str]:
    """Add a nodule to its reader's voxels; what is wrong with it."""
    reader = f"reader {nodule.reader}, " if nodule.reader is not None else ""
    where = f"{reader}nodule {nodule.nodule_id}"
    if isinstance(nodule.shape, Contours):
        found = _draw_contours(marked, nodule.shape, grid, name)
    elif isinstance(nodule.shape, Ball):
        found = _draw_ball(marked, nodule.shape, grid, name)
    elif isinstance(nodule.shape, Voxels):
        inside = paste(marked, nodule.shape.inside, nodule.shape.corner)
        found = [] if inside else ["reaches out of the CT"]
    else:
        kind = type(nodule.shape).__name__.lower()
        found = [f"is a {kind} on a radiograph, which says nothing of a CT"]
    return [f"{where}: {problem}" for problem in found]


def _draw_contours(marked: Mask, shape: Contours, grid: Grid, name: str) -> list[str]:
    scanner = _as_scanned(marked, grid, name)  # a view: what is drawn there is drawn in `marked`
    problems: list[str] = []
    placed: list[tuple[int, Contour]] = []
    for contour in shape.contours:
        index = _slice_of(contour, grid, name)
        columns, rows = zip(*contour.points, strict=True)
        if index is None:
            low, high = _z_range(grid)
            problems.append(
                f"a slice at {contour.z_mm:g} mm, but the CT reaches from {low:g} to {high:g} mm"
                if not (grid.sop_uids and contour.sop_uid)
                else f"the slice at {contour.z_mm:g} mm ({contour.sop_uid}) is not in the CT"
            )
        elif max(columns) >= scanner.shape[2] or max(rows) >= scanner.shape[1]:
            problems.append(
                f"a point at ({max(columns)}, {max(rows)}) px, but a slice has "
                f"{scanner.shape[2]} x {scanner.shape[1]}"
            )
        else:
            placed.append((index, contour))
    empty = True
    for keep in (True, False):  # holes last, whatever their order
        for index, contour in placed:
            if contour.inclusion is not keep:
                continue
            part, corner = fill(contour.points, with_outline=not keep)
            if keep:
                paste(scanner[index], part, corner)
                empty = empty and not part.any()
            else:
                hole = np.argwhere(part) + corner
                scanner[index][hole[:, 0], hole[:, 1]] = False
    if empty:
        for index, contour in placed:
            pixels = outline(contour.points)
            scanner[index][pixels[:, 1], pixels[:, 0]] = True
    return problems


def _slice_of(contour: Contour, grid: Grid, name: str) -> int | None:
    """The slice's number in the scanner's order (upwards), None where the CT has no such slice."""
    upwards = grid.flips(name)[2] > 0
    if grid.sop_uids and contour.sop_uid:
        if contour.sop_uid not in grid.sop_uids:
            return None
        number = grid.sop_uids.index(contour.sop_uid)
        return number if upwards else grid.size[2] - 1 - number
    position = (contour.z_mm - _z_range(grid)[0]) / grid.spacing[2]
    number = int(np.floor(position + 0.5))
    return number if 0 <= number < grid.size[2] else None


def _z_range(grid: Grid) -> tuple[float, float]:
    """z of the lowest and the highest slice, mm."""
    ends = grid.origin[2], grid.origin[2] + grid.direction[8] * grid.spacing[2] * (grid.size[2] - 1)
    return min(ends), max(ends)


def _as_scanned(volume: Mask, grid: Grid, name: str) -> Mask:
    """A view of (z, y, x) with the scanner's axes: columns to the left, rows to the back, up."""
    x, y, z = grid.flips(name)
    return volume[::z, ::y, ::x]


def _draw_ball(marked: Mask, ball: Ball, grid: Grid, name: str) -> list[str]:
    centre = _centre_index(ball, grid, name)
    nearest = np.floor(centre + 0.5).astype(int)
    size = np.array(grid.size)
    if (nearest < 0).any() or (nearest >= size).any():
        unit = "px, px, mm" if ball.in_pixels else "mm"
        shown = ", ".join(f"{value:g}" for value in ball.centre)
        return [f"its centre ({shown} {unit}) is outside the CT"]
    reach = np.ceil(ball.diameter_mm / 2.0 / np.array(grid.spacing)).astype(int) + 1
    low, high = np.maximum(nearest - reach, 0), np.minimum(nearest + reach + 1, size)
    axes = [np.arange(low[i], high[i]) - centre[i] for i in (2, 1, 0)]
    z, y, x = np.meshgrid(*axes, indexing="ij")
    steps = np.stack([x, y, z], axis=-1) * np.array(grid.spacing)  # cosines keep lengths
    # A voxel on the sphere is inside whichever way round the file counts its axes.
    inside = (steps**2).sum(axis=-1) <= (ball.diameter_mm / 2.0 + 1e-6) ** 2
    region = marked[low[2] : high[2], low[1] : high[1], low[0] : high[0]]
    region |= inside
    marked[nearest[2], nearest[1], nearest[0]] = True
    return []


def _centre_index(ball: Ball, grid: Grid, name: str) -> npt.NDArray[np.float64]:
    """Continuous index (x, y, z) in the CT's own axes."""
    if not ball.in_pixels:
        return grid.index(ball.centre)
    own = []
    for value, sign, size in zip(ball.centre[:2], grid.flips(name)[:2], grid.size[:2], strict=True):
        own.append(value if sign > 0 else size - 1 - value)
    z = (ball.centre[2] - grid.origin[2]) / (grid.direction[8] * grid.spacing[2])
    return np.array([*own, z])
