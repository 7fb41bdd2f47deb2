"""Contrast-limited adaptive histogram equalisation, as the phantom uses it.

Projected CTs take scikit-image's. The phantom keeps this one, because its images must be the
same bytes with every version of every library: measured studies and cached cases rest on them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


def equalize_locally(image: Array, clip: float, tiles: int = 8, bins: int = 256) -> Array:
    """Contrast-limited adaptive histogram equalisation (Zuiderveld, Graphics Gems IV, 1994).

    Args:
        image: (H, W) in [0, 1].
        clip: largest share of a tile's pixels that one grey level may hold; the excess is
            spread over all levels.
        tiles: the image is divided into about `tiles` x `tiles`.
        bins: grey levels.

    Returns:
        (H, W) float64 in [0, 1].
    """
    assert image.ndim == 2, f"an image has two axes, not {image.ndim}"
    sides = [max(1, side // tiles) for side in image.shape]
    counts = [-(-side // tile) for side, tile in zip(image.shape, sides, strict=True)]
    padding = [(0, n * t - s) for n, t, s in zip(counts, sides, image.shape, strict=True)]
    levels = np.minimum((np.pad(image, padding, mode="reflect") * bins).astype(np.intp), bins - 1)
    blocks = levels.reshape(counts[0], sides[0], counts[1], sides[1]).transpose(0, 2, 1, 3)
    n_tiles, area = counts[0] * counts[1], sides[0] * sides[1]
    keys = blocks.reshape(n_tiles, area) + bins * np.arange(n_tiles)[:, None]
    histograms = np.bincount(keys.ravel(), minlength=n_tiles * bins).reshape(n_tiles, bins)
    mapping = _clipped_mapping(histograms, max(1.0, clip * area))
    rows, row_weight = _tile_neighbours(image.shape[0], sides[0], counts[0])
    columns, column_weight = _tile_neighbours(image.shape[1], sides[1], counts[1])
    levels = levels[: image.shape[0], : image.shape[1]]
    result = np.zeros(image.shape)
    for i in range(2):
        for j in range(2):
            tile = rows[i][:, None] * counts[1] + columns[j][None, :]
            weight = row_weight[i][:, None] * column_weight[j][None, :]
            result += weight * mapping[tile, levels]
    low, high = result.min(), result.max()
    return (result - low) / (high - low) if high > low else result


def _clipped_mapping(histograms: Array, limit: float) -> Array:
    """Cumulative distributions, (tiles, bins) in [0, 1], of histograms clipped at `limit`."""
    clipped = np.minimum(histograms.astype(np.float64), limit)
    area, bins = histograms[0].sum(), histograms.shape[1]
    for _ in range(8):  # what is spread may pass the limit again: a few rounds settle it
        excess = area - clipped.sum(axis=1, keepdims=True)
        clipped = np.minimum(clipped + excess / bins, limit)
    clipped += (area - clipped.sum(axis=1, keepdims=True)) / bins
    mapping: Array = np.cumsum(clipped, axis=1) / area
    return mapping


def _tile_neighbours(
    side: int, tile: int, count: int
) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
    """The two tiles whose centres enclose each pixel of an axis, and their linear weights."""
    position = (np.arange(side) + 0.5) / tile - 0.5
    first = np.floor(position).astype(np.intp)
    fraction = position - first
    low, high = np.clip(first, 0, count - 1), np.clip(first + 1, 0, count - 1)
    return (low, high), (1.0 - fraction, fraction)
