"""Projection of a CT volume (and its mask) to a DRR: parallel rays, front to back.

Volumes are indexed (z, y, x) as SimpleITK's arrays are: z rises towards the head, y towards the
back, x towards the patient's left. Images come out as radiographs are shown: head up, the
patient's right on the left, dense tissue bright.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

Array = npt.NDArray[Any]
Image = npt.NDArray[np.float32]
Mask = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class DrrRecipe:
    """From HU to display; the defaults are the recipe that the LIDC DRRs were published with.

    Attributes:
        air_below_hu: voxels at or below become air, so that vessels stand out of the lung.
        water_per_mm: attenuation of water. The published 0.001 a voxel at the volume's maximum
            is about this; so weak that the image is nearly the plain line integral.
        percentiles: of the intensity, clipped to and scaled to [0, 1].
        clahe_clip: clip limit of the local histogram equalisation, 0 for none.
        blur_px: sigma of the final Gaussian blur.
    """

    air_below_hu: float = -500.0
    water_per_mm: float = 0.00035
    percentiles: tuple[float, float] = (1.0, 99.0)
    clahe_clip: float = 0.03
    blur_px: float = 0.5


@dataclass(frozen=True)
class DrrResult:
    """A DRR on square pixels.

    Attributes:
        image: (H, W) float32 in [0, 1], bone bright.
        mask: (H, W) uint8 0/1: pixels whose ray meets the masked volume; None without one.
        spacing: mm per pixel, row and column.
    """

    image: Image
    mask: Mask | None
    spacing: tuple[float, float]


LIDC_RECIPE = DrrRecipe()


def project_parallel(
    volume_hu: Array,
    spacing: tuple[float, float, float],
    mask: Array | None = None,
    recipe: DrrRecipe = LIDC_RECIPE,
) -> DrrResult:
    """Project a CT along its front-to-back axis.

    Args:
        volume_hu: (Z, Y, X) in HU, axes as in the module's docstring.
        spacing: mm per voxel along z, y and x.
        mask: (Z, Y, X), non-zero inside the structure to project by the same rays.
        recipe: how HU become a picture.

    Returns:
        The image with pixels of `spacing[2]` squared: height int(Z x spacing z / spacing x).
    """
    assert volume_hu.ndim == 3, f"a volume has three axes, not {volume_hu.ndim}"
    assert mask is None or mask.shape == volume_hu.shape, "mask and volume on different grids"
    path = water_path(volume_hu, spacing[1], recipe.air_below_hu)
    image = develop(path, recipe)
    height = int(round(volume_hu.shape[0] * spacing[0] / spacing[2], 6))
    return DrrResult(
        image=np.ascontiguousarray(_resize_rows(image, height)[::-1]),
        mask=None if mask is None else _nearest_rows(np.any(mask, axis=1), height)[::-1].copy(),
        spacing=(spacing[2], spacing[2]),
    )


def water_path(volume_hu: Array, depth_mm: float, air_below_hu: float = -1000.0) -> Image:
    """Line integral along y in mm of water: sum of (1 + HU / 1000) x depth_mm, (Z, X) float32.

    Voxels at or below `air_below_hu` count as air. HU are rounded to integers and summed as
    such: exact, so the order of the sum cannot change a bit.
    """
    hu = volume_hu if np.issubdtype(volume_hu.dtype, np.integer) else np.rint(volume_hu)
    floor = np.int16(np.floor(max(air_below_hu, -1000.0)))
    shifted = np.add(hu, 1000, dtype=np.int16, casting="unsafe")
    shifted *= hu > floor
    total = shifted.sum(axis=1, dtype=np.int64)
    path: Image = (total * (depth_mm / 1000.0)).astype(np.float32)
    return path


def develop(path: Image, recipe: DrrRecipe = LIDC_RECIPE) -> Image:
    """Turn a water path in mm into a displayed image in [0, 1], dense tissue bright."""
    intensity = np.exp(-recipe.water_per_mm * path.astype(np.float64))
    low, high = np.percentile(intensity, recipe.percentiles)
    image = np.clip((intensity - low) / max(high - low, 1e-12), 0.0, 1.0)
    if recipe.clahe_clip > 0.0:
        image = equalize_locally(image, recipe.clahe_clip)
    if recipe.blur_px > 0.0:
        image = ndimage.gaussian_filter(image, recipe.blur_px, mode="nearest")
    shown: Image = (1.0 - image).astype(np.float32)
    return shown


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


def _resize_rows(image: Image, height: int) -> Image:
    """Resample rows linearly; smoothed first where they get fewer."""
    if height == image.shape[0]:
        return image
    factor = image.shape[0] / height
    if factor > 1.0:
        image = ndimage.gaussian_filter1d(image, (factor - 1.0) / 2.0, axis=0, mode="nearest")
    position = np.clip((np.arange(height) + 0.5) * factor - 0.5, 0, image.shape[0] - 1)
    low = np.floor(position).astype(np.intp)
    high = np.minimum(low + 1, image.shape[0] - 1)
    fraction = (position - low).astype(np.float32)[:, None]
    result: Image = image[low] * (1.0 - fraction) + image[high] * fraction
    return result


def _nearest_rows(mask: Array, height: int) -> Mask:
    """Resample the rows of a boolean mask, as 0 and 1."""
    index = ((np.arange(height) + 0.5) * mask.shape[0] / height).astype(np.intp)
    rows: Mask = mask[index].astype(np.uint8)
    return rows
