"""Whether two images show the same picture, without looking at both: a sketch of each.

A sketch is 33 numbers: the standardised pixels, each times +1 or -1 by a fixed pattern, summed
over a 4 x 8 raster; and how far rounding to 8 bits may have moved the pixels. The mean square
difference of two sketches estimates that of the pixels (Johnson and Lindenstrauss), so copies are
found whatever their dtype, gain and offset, and what differs in detail alone is told apart.
"""

from __future__ import annotations

from collections import defaultdict
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from attnseg.imaging.case import CaseImages

Sketch = npt.NDArray[np.int16]

_RASTER = (4, 8)
_SUMS = _RASTER[0] * _RASTER[1]
LENGTH = _SUMS + 1
_UNIT = 1 / 2048  # of the whole numbers that a sketch is kept in
# Root mean square difference of standardised pixels up to which two pictures are one; different
# patients are 0.3 and more apart. Rounding alone is 0.29 grey levels, with some room for the
# estimate; of 8 bits that is 0.005 in a radiograph, and of more it is next to nothing.
_LEAST, _LEVELS = 0.001, 0.4
_PASSES = 10
_DIMENSIONS = 8  # of a pass
# Widths: fine ones part other pictures, coarse ones keep rounded copies together.
_CELLS = (0.05, 0.2)
_NEIGHBOURS = 3


def sketches_of(images: CaseImages) -> npt.NDArray[np.int16]:
    """(2, 33): of a case's X-ray and DRR."""
    drr = sketch(images.drr)
    return np.stack([drr if images.xray is images.drr else sketch(images.xray), drr])


def sketch(pixels: npt.NDArray[Any]) -> Sketch:
    """(33,) whole numbers of an image (H, W); zeros of a constant one, which is like no other."""
    height, width = pixels.shape
    mean, std = pixels.mean(dtype=np.float64), pixels.std(dtype=np.float64)
    if not std > 0:
        return np.zeros(LENGTH, np.int16)
    signed = (pixels.astype(np.float32) - np.float32(mean)) * _signs(height, width)
    blocks = F.adaptive_avg_pool2d(torch.from_numpy(signed)[None, None], _RASTER)[0, 0].numpy()
    sums = blocks.ravel() * (np.sqrt(height * width / _SUMS) / std)
    room = max(_LEAST, _LEVELS / std if pixels.dtype.itemsize == 1 else 0.0)
    whole = np.rint(np.append(sums, room) / _UNIT)
    return np.clip(whole, -32767, 32767).astype(np.int16)


def same_pictures(sketches: npt.NDArray[np.int16]) -> list[list[int]]:
    """Groups of rows (n, 33) that show one picture; near-linear in n.

    Constant images (rows of zeros) are left out. Copies that differ by rounding are found but for
    one in thousands; what differs by noise near the limit may be missed.
    """
    parent = np.arange(len(sketches))
    live = np.flatnonzero(sketches.any(axis=1))
    if len(live) < 2:
        return []
    numbers = sketches[live].astype(np.float32) * np.float32(_UNIT)
    values, room = numbers[:, :_SUMS], numbers[:, _SUMS]
    rng = np.random.default_rng(0)
    for number in range(_PASSES):
        dimensions = rng.choice(_SUMS, _DIMENSIONS, replace=False)
        width = _CELLS[number % len(_CELLS)]
        cells = np.floor(values[:, dimensions] / width + rng.random(_DIMENSIONS)).astype(np.int64)
        key = cells @ rng.integers(1, 2**62, _DIMENSIONS, dtype=np.int64)  # wraps: a hash
        order = np.lexsort((values.mean(axis=1), key))
        for step in range(1, _NEIGHBOURS + 1):
            one, other = order[:-step], order[step:]
            met = key[one] == key[other]
            one, other = one[met], other[met]
            apart = ((values[one] - values[other]) ** 2).mean(axis=1)
            same = apart <= np.maximum(room[one], room[other]) ** 2
            for first, second in np.column_stack([one, other])[same]:
                _join(parent, live[first], live[second])
    groups: dict[int, list[int]] = defaultdict(list)
    for index in live.tolist():
        if parent[index] != index or index in groups:
            groups[_root(parent, index)].append(index)
    return sorted(sorted({root, *members}) for root, members in groups.items())


@lru_cache(maxsize=4)
def _signs(height: int, width: int) -> npt.NDArray[np.int8]:
    drawn = np.random.default_rng(0).integers(0, 2, (height, width), dtype=np.int8)
    return 2 * drawn - 1


def _root(parent: npt.NDArray[np.int64], index: int) -> int:
    while parent[index] != index:
        parent[index] = parent[parent[index]]
        index = int(parent[index])
    return index


def _join(parent: npt.NDArray[np.int64], one: int, other: int) -> None:
    first, second = sorted((_root(parent, int(one)), _root(parent, int(other))))
    parent[second] = first
