"""Synthetic nodules, added to real radiographs during training.

Annotated nodules are few and most of them are too faint to learn from at first. A nodule of
known outline that is added to a real image is exact supervision, in any number. In the nearly
linear display of a DRR a nodule adds its thickness to what the ray has passed already, so it is
drawn as the projection of an ellipsoid with a bumpy outline, whose peak is proportional to its
diameter. A solid one has its steepest edge at the outline, where those of LIDC-IDRI hardly rise
(experiments/lidc_data): `margin_px`, `power` and `blur_px` draw what fades before it. Nor is
the display linear where it is bright: `bright_contrast` is what is left of the contrast there.
Everything is a pure function of the image and the generator that the caller keys.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from attnseg.config import SyntheticConfig
from attnseg.data.record import Decoded
from attnseg.imaging.window import Window, full_window

Floats = npt.NDArray[np.float32]

_CELLS = 64  # of the location prior, along a side of the square image
_BUMPS = (2, 3, 4, 5)  # harmonics of the outline
_SHARP = 0.6  # px of the model's size: standard deviation of the blur where none is given
_MOST_MARGIN = 0.3  # of the radius
_REFERENCE_SIDE = 512  # px: what the configured diameters are given at


@dataclass(frozen=True)
class Nodule:
    """One synthetic nodule, placed in an image.

    Attributes:
        top, left: of `profile` in the image's pixel coordinates; it may reach beyond the image.
        profile: (h, w) float32, what is added to the standardised image.
        outline: (h, w) bool, the mask.
    """

    top: int
    left: int
    profile: Floats
    outline: npt.NDArray[np.bool_]

    def brighten(self, image: Floats, origin: tuple[int, int] = (0, 0)) -> None:
        """Add what lies inside a region to its image (H, W), in place.

        Args:
            image: standardised grey values.
            origin: the region's (top, left) in the coordinates of `top` and `left`.
        """
        region, own = self._overlap(image.shape, origin)
        image[region] += self.profile[own]

    def mark(self, mask: npt.NDArray[Any], origin: tuple[int, int] = (0, 0)) -> None:
        """Set the outline to 1 in a region's 0/1 mask (H, W), in place; as `brighten`."""
        region, own = self._overlap(mask.shape, origin)
        mask[region][self.outline[own]] = 1

    def _overlap(
        self, shape: tuple[int, ...], origin: tuple[int, int]
    ) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
        """Where nodule and region meet, in the region's coordinates and in the nodule's own."""
        height, width = self.outline.shape
        place = Window(self.top - origin[0], self.left - origin[1], height, width)
        top, left, rows, columns = place.content(shape)
        return place.overlap(shape), (slice(top, top + rows), slice(left, left + columns))


class LocationPrior:
    """Where nodules lie: the training masks' average, smoothed, mirrored left to right.

    Args:
        masks: (H, W) 0/1 each, the longer side `size`; those of the training split alone, since
            the prior is learned from them. Without any foreground every place is as likely.
        size: px of the square that images are centred in.
    """

    def __init__(self, masks: Iterable[npt.NDArray[np.uint8]], size: int) -> None:
        counts = np.zeros((_CELLS, _CELLS))
        for mask in masks:
            rows, columns = np.nonzero(mask)
            if not len(rows):
                continue
            square = full_window(mask.shape, size)
            cells = (rows - square.top) * _CELLS // size, (columns - square.left) * _CELLS // size
            # Every case counts the same, however large its nodules are.
            np.add.at(counts, cells, 1.0 / len(rows))
        density = ndimage.gaussian_filter(counts + counts[:, ::-1], sigma=1.5)
        total = density.sum()
        density = density / total if total else np.full_like(density, 1.0 / density.size)
        self._cumulative = np.cumsum(density.ravel())
        self._size = size

    def draw(self, rng: np.random.Generator, shape: tuple[int, int]) -> tuple[float, float]:
        """A place (row, column) in the pixel coordinates of an image of that shape."""
        cell, within = rng.random(), rng.random(2)
        index = int(np.searchsorted(self._cumulative, cell * self._cumulative[-1], side="right"))
        row, column = divmod(min(index, _CELLS**2 - 1), _CELLS)
        square = full_window(shape, self._size)
        scale = self._size / _CELLS
        place = (row + within[0]) * scale + square.top, (column + within[1]) * scale + square.left
        return float(place[0]), float(place[1])


def draw_nodules(
    config: SyntheticConfig,
    prior: LocationPrior,
    rng: np.random.Generator,
    case: Decoded,
    size: int,
    epoch: int,
) -> list[Nodule]:
    """The nodules that a training sample gets; none overlaps a real one.

    Diameters are log-uniform; the peak is `contrast` times the diameter, times a log-normal
    factor, times `easier` at epoch 0, which falls geometrically to 1 at `easier_epochs`, and times
    what falls linearly from 1 to `bright_contrast` with the grey level at the place, from one
    standard deviation below the image's mean to one above.

    Args:
        case: that they are added to.
        size: px of the longer side; diameters are scaled by size / 512.
        epoch: of the run.
    """
    scale = size / _REFERENCE_SIDE
    low, high = config.diameter_px
    ease = config.easier ** max(0.0, 1.0 - epoch / max(config.easier_epochs, 1))
    shape = (case.mask.shape[0], case.mask.shape[1])
    nodules = []
    for _ in range(int(rng.poisson(config.per_image))):
        diameter = math.exp(rng.uniform(math.log(low), math.log(high)))
        peak = config.contrast * diameter * math.exp(rng.normal(0.0, config.contrast_spread)) * ease
        place = prior.draw(rng, shape)
        if config.bright_contrast < 1.0:
            grey = _grey_level(case, place, diameter * scale / 2)
            peak *= 1.0 - (1.0 - config.bright_contrast) * (min(max(grey, -1.0), 1.0) + 1.0) / 2.0
        nodule = _nodule(config, rng, place, diameter, peak, scale)
        if not _touches(nodule, case.mask):
            nodules.append(nodule)
    return nodules


def _nodule(
    config: SyntheticConfig,
    rng: np.random.Generator,
    place: tuple[float, float],
    diameter: float,
    peak: float,
    scale: float,
) -> Nodule:
    """An ellipsoid's projection: a power of what is left inside the outline, less the margin."""
    angle, slim = rng.uniform(0.0, math.pi), rng.uniform(*config.axis_ratio)
    bumps, turns = rng.normal(0.0, 0.07, len(_BUMPS)), rng.uniform(0.0, 2 * math.pi, len(_BUMPS))
    margin = min(_between(rng, config.margin_px), _MOST_MARGIN * diameter / 2) * scale
    power = _between(rng, config.power)
    blur = _SHARP if config.blur_px is None else _between(rng, config.blur_px) * scale
    reach = math.ceil(diameter * scale * 0.75) + 2
    centre = math.floor(place[0]), math.floor(place[1])
    rows, columns = np.mgrid[-reach : reach + 1, -reach : reach + 1].astype(np.float32)
    rows, columns = rows - (place[0] - centre[0]), columns - (place[1] - centre[1])
    along = columns * math.cos(angle) + rows * math.sin(angle)
    across = (rows * math.cos(angle) - columns * math.sin(angle)) / slim
    theta = np.arctan2(across, along)
    waves = sum(
        bump * np.cos(n * theta + turn) for n, bump, turn in zip(_BUMPS, bumps, turns, strict=True)
    )
    radius = np.maximum(diameter * scale / 2 * (1.0 + waves), 0.5)
    distance = along**2 + across**2
    left = np.clip(1.0 - distance / np.maximum(radius - margin, 0.5) ** 2, 0.0, None)
    profile = ndimage.gaussian_filter(left**power, blur)
    return Nodule(
        centre[0] - reach,
        centre[1] - reach,
        (peak * profile).astype(np.float32),
        distance < radius**2,
    )


def _between(rng: np.random.Generator, ends: tuple[float, float]) -> float:
    """Uniform; nothing is drawn where both ends are one value."""
    return ends[0] if ends[0] == ends[1] else float(rng.uniform(*ends))


def _grey_level(case: Decoded, place: tuple[float, float], reach: float) -> float:
    """Of the standardised DRR, the mean over a square of 2 `reach` px; 0 outside the image."""
    rows, columns = (slice(max(int(at - reach), 0), max(int(at + reach), 0) + 1) for at in place)
    around = case.drr[rows, columns]
    return (float(around.mean()) - case.mean[1]) / case.std[1] if around.size else 0.0


def _touches(nodule: Nodule, mask: npt.NDArray[np.uint8]) -> bool:
    place = Window(nodule.top, nodule.left, *nodule.outline.shape)
    return bool(mask[place.overlap(mask.shape)].any())
