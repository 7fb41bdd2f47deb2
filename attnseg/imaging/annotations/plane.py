"""Annotations on a radiograph as a 2-D mask; every such mask is a surrogate.

Rules, each tested:
- a disc is every pixel whose centre is within the radius, and the pixel at its centre;
- a box covers the pixels whose centre it contains (at least one), or with `ellipse` the ellipse
  inscribed in it, since nodules are round;
- a polygon covers what its outline encloses, the outline's pixels included; with `box` or
  `ellipse` it is taken for its bounding box;
- what sticks out of the image is cut; a lesion that lies outside altogether is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

from attnseg.imaging.annotations.fill import Mask, disc, fill, paste
from attnseg.imaging.annotations.nodule import Box, Disc, Nodule, Polygon

Rule = Literal["as_given", "polygon", "box", "ellipse"]


def radiograph_mask(
    nodules: Sequence[Nodule],
    shape: tuple[int, int],
    *,
    rule: Rule = "as_given",
    scale: float = 1.0,
) -> tuple[npt.NDArray[np.uint8], list[str]]:
    """The union of a radiograph's lesions.

    Args:
        nodules: with discs, boxes and polygons.
        shape: (H, W) of the image.
        rule: how boxes and polygons are filled.
        scale: from the annotations' pixels to the image's.

    Returns:
        (H, W) 0/1, and one line for each lesion that is not in the image.
    """
    mask = np.zeros(shape, dtype=bool)
    problems = []
    for nodule in nodules:
        drawn = _drawn(nodule, shape, rule, scale)
        if isinstance(drawn, str):
            problems.append(f"lesion {nodule.nodule_id}: {drawn}")
        else:
            mask |= drawn
    return mask.astype(np.uint8), problems


def _drawn(nodule: Nodule, shape: tuple[int, int], rule: Rule, scale: float) -> Mask | str:
    """The lesion's pixels, or why there are none."""
    found = nodule.shape
    size = f"the image has {shape[1]} x {shape[0]} px"
    if isinstance(found, Disc):
        x, y = (_scaled(value, scale) for value in found.centre)
        if not (-0.5 <= x < shape[1] - 0.5 and -0.5 <= y < shape[0] - 0.5):
            return f"its centre ({found.centre[0]:g}, {found.centre[1]:g}) is outside; {size}"
        return disc((x, y), (found.diameter * scale, found.diameter * scale), shape)
    if isinstance(found, Polygon) and rule in ("as_given", "polygon"):
        mask = np.zeros(shape, dtype=bool)
        points = [(_scaled(x, scale), _scaled(y, scale)) for x, y in found.points]
        part, corner = fill(points, with_outline=True)
        paste(mask, part, corner)
        return mask if mask.any() else f"lies outside; {size}"
    if isinstance(found, Polygon):
        low, high = np.min(found.points, axis=0), np.max(found.points, axis=0) + 1.0
        found = Box(float(low[0]), float(low[1]), float(high[0]), float(high[1]))
    assert isinstance(found, Box), f"a {type(found).__name__} is not on a radiograph"
    box = _box(found, shape, rule, scale)
    return box if box is not None else f"its box lies outside; {size}"


def _box(box: Box, shape: tuple[int, int], rule: Rule, scale: float) -> Mask | None:
    left, top, right, bottom = (
        value * scale for value in (box.left, box.top, box.right, box.bottom)
    )
    if right <= 0 or bottom <= 0 or left >= shape[1] or top >= shape[0]:
        return None
    if rule == "ellipse":
        centre = (left + right) / 2.0 - 0.5, (top + bottom) / 2.0 - 0.5
        return disc(centre, (right - left, bottom - top), shape)
    mask = np.zeros(shape, dtype=bool)
    rows, columns = (
        slice(low, max(high, low + 1))
        for low, high in (
            (_first(top, shape[0]), _first(bottom, shape[0] + 1)),
            (_first(left, shape[1]), _first(right, shape[1] + 1)),
        )
    )
    mask[rows, columns] = True
    return mask


def _first(edge: float, end: int) -> int:
    """The first pixel whose centre (a half after its edge) is not before `edge`."""
    return min(max(int(np.ceil(edge - 0.5)), 0), end - 1)


def _scaled(position: float, scale: float) -> float:
    """A pixel centre's position on a finer or coarser grid over the same picture."""
    return (position + 0.5) * scale - 0.5
