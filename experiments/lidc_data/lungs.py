"""Lung fields of a DRR by classical image processing: thresholds, morphology, no learning.

Each lung is the union, over rising grey thresholds, of the largest dark region on its side that
the body encloses (it touches neither side nor the bottom of the image). While the threshold is
low enough the ribs and the chest wall keep the region closed; the last threshold before it leaks
outlines the lung. Heart, hila, ribs and the lung behind the diaphragm are outside by
construction; a closing brings back vessels and ribs.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

Mask = npt.NDArray[np.bool_]

_STEP = 2  # px: thresholds are tried at half size
_LEVELS = tuple(level / 255 for level in range(40, 176, 6))  # of the image's range
_CLOSING = 1 / 22  # of the image's width


def lung_fields(image: npt.NDArray[Any]) -> Mask:
    """Both lung fields of a DRR (H, W), bright where the radiation was absorbed: (H, W) bool.

    A lung that leaks at every threshold is missing, and none may be left.
    """
    low, high = float(image.min()), float(image.max())
    grey = (image.astype(np.float32) - low) / max(high - low, 1e-6)
    grey = ndimage.gaussian_filter(grey, 2.0)[::_STEP, ::_STEP]
    sides: list[Mask] = [np.zeros(grey.shape, dtype=bool) for _ in range(2)]
    for level in _LEVELS:
        dark = ndimage.binary_opening(grey < level, iterations=2)
        for side, region in enumerate(_largest_enclosed(dark)):
            if region is not None:
                sides[side] |= region
    radius = max(1, round(_CLOSING * grey.shape[1]))
    closed = np.any([ndimage.binary_fill_holes(_close(side, radius)) for side in sides], axis=0)
    full = np.repeat(np.repeat(closed, _STEP, 0), _STEP, 1)
    fields: Mask = full[: image.shape[0], : image.shape[1]]
    return fields


def bounding_box(mask: Mask) -> tuple[float, float, float, float]:
    """Top, left, height, width of the mask in pixels; the whole image where it is empty."""
    rows, columns = np.nonzero(mask.any(1))[0], np.nonzero(mask.any(0))[0]
    if not len(rows):
        return 0.0, 0.0, float(mask.shape[0]), float(mask.shape[1])
    return (
        float(rows[0]),
        float(columns[0]),
        float(rows[-1] - rows[0] + 1),
        float(columns[-1] - columns[0] + 1),
    )


def _largest_enclosed(dark: Mask) -> list[Mask | None]:
    """The largest lung-like region of the left and of the right half of the image."""
    height, width = dark.shape
    labels, count = ndimage.label(dark)
    sizes = np.bincount(labels.ravel(), minlength=count + 1)
    at_border = np.zeros(count + 1, dtype=bool)
    at_border[np.concatenate([labels[:, 0], labels[:, -1], labels[-1]])] = True
    at_top = np.bincount(labels[0], minlength=count + 1)
    best: list[tuple[int, Mask | None]] = [(0, None), (0, None)]
    for number, box in enumerate(ndimage.find_objects(labels), start=1):
        rows, columns = box
        middle = (columns.start + columns.stop) / 2 / width
        is_lung_like = (
            0.01 * dark.size < sizes[number] < 0.25 * dark.size
            and not at_border[number]
            and at_top[number] <= 0.1 * width  # an apex may be cut, a shoulder may not pass
            and columns.stop - columns.start < 0.45 * width
            and (rows.start + rows.stop) / 2 < 0.75 * height  # gas in the bowel is lower
        )
        side = int(middle >= 0.5)
        if is_lung_like and sizes[number] > best[side][0]:
            best[side] = (int(sizes[number]), labels == number)
    return [region for _, region in best]


def _close(mask: Mask, radius: int) -> Mask:
    """Morphological closing by a disc, by distance transforms."""
    padded = np.pad(mask, radius + 1)
    grown = ndimage.distance_transform_edt(~padded) <= radius
    closed: Mask = ndimage.distance_transform_edt(grown) > radius
    return closed[radius + 1 : -radius - 1, radius + 1 : -radius - 1]
