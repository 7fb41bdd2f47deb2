"""From outlines to pixels, in the plane."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from scipy import ndimage

Mask = npt.NDArray[np.bool_]


def outline(points: Sequence[tuple[float, float]]) -> npt.NDArray[np.intp]:
    """The pixels on a closed outline, (n, 2) as (x, y), 8-connected.

    Vertices are rounded to the pixel whose centre is nearest.
    """
    corners = np.floor(np.asarray(points, dtype=np.float64) + 0.5).astype(np.intp)
    closed = np.concatenate([corners, corners[:1]])
    parts = [corners]
    for start, end in pairwise(closed):
        steps = int(np.abs(end - start).max())
        if steps > 1:
            share = np.linspace(0.0, 1.0, steps + 1)[1:-1, None]
            parts.append(np.floor(start + share * (end - start) + 0.5).astype(np.intp))
    return np.unique(np.concatenate(parts), axis=0)


def fill(
    points: Sequence[tuple[float, float]], *, with_outline: bool
) -> tuple[Mask, tuple[int, int]]:
    """What a closed outline encloses: every pixel that cannot reach the outside across it.

    This is what "the first pixel outside the nodule" of LIDC's edge maps means, and it does not
    depend on the outline's direction or on spurs and loops in it.

    Args:
        points: (x, y) in order; the last joins the first.
        with_outline: whether the outline's own pixels are inside.

    Returns:
        (rows, columns) bool, and the (row, column) at which it lies.
    """
    pixels = outline(points)
    corner = pixels.min(axis=0)
    columns, rows = pixels.max(axis=0) - corner + 1
    line = np.zeros((int(rows), int(columns)), dtype=bool)
    line[pixels[:, 1] - corner[1], pixels[:, 0] - corner[0]] = True
    # Background of a filled shape is 4-connected, so that no diagonal slips through the line.
    filled: Mask = ndimage.binary_fill_holes(line)
    if not with_outline:
        filled &= ~line
    return filled, (int(corner[1]), int(corner[0]))


def disc(
    centre: tuple[float, float], diameter: tuple[float, float], shape: tuple[int, int]
) -> Mask:
    """Pixels whose centre is within an ellipse, and the pixel at its centre; (H, W) bool.

    Args:
        centre: (x, y).
        diameter: along columns and rows, px.
        shape: (H, W).
    """
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    radius = max(diameter[0] / 2.0, 1e-9), max(diameter[1] / 2.0, 1e-9)
    inside: Mask = ((columns - centre[0]) / radius[0]) ** 2 + (
        (rows - centre[1]) / radius[1]
    ) ** 2 <= 1.0
    row, column = (int(np.floor(value + 0.5)) for value in (centre[1], centre[0]))
    if 0 <= row < shape[0] and 0 <= column < shape[1]:
        inside[row, column] = True
    return inside


def paste(into: Mask, part: Mask, corner: tuple[int, ...]) -> bool:
    """Set in `into` what is set in `part`, which lies at `corner`; whatever sticks out is cut.

    Returns:
        Whether nothing was cut.
    """
    target, source = [], []
    for start, length, size in zip(corner, part.shape, into.shape, strict=True):
        low, high = max(start, 0), min(start + length, size)
        if high <= low:
            return not part.any()
        target.append(slice(low, high))
        source.append(slice(low - start, high - start))
    kept = part[tuple(source)]
    into[tuple(target)] |= kept
    return int(kept.sum()) == int(part.sum())
