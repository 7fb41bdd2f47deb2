"""Standardisation, padding and training-time augmentation of aligned X-ray, DRR and mask.

Geometry is drawn once and shared by all three; intensity is drawn for X-ray and DRR apart.
Intensity comes first and on the real image only, so that padding stays exactly 0. What is drawn
comes from a generator that the caller keys; MONAI resamples.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage
from torch.nn.functional import grid_sample

from attnseg.common.hidden import without_mlflow
from attnseg.config import AugmentConfig
from attnseg.data.record import Decoded
from attnseg.data.synthetic import Nodule
from attnseg.imaging.window import Window

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Intensity:
    """How one image's grey values are changed; 1, 1, 0, 0 leaves them."""

    gamma: float = 1.0
    contrast: float = 1.0
    blur_px: float = 0.0
    noise: float = 0.0

    def __call__(self, pixels: Floats, rng: np.random.Generator) -> Floats:
        """Change a standardised image (H, W), in new memory where anything changes."""
        if self.gamma != 1.0 and pixels.size:
            low, high = pixels.min(), pixels.max()
            extent = max(float(high - low), 1e-6)
            pixels = ((pixels - low) / extent) ** np.float32(self.gamma) * extent + low
        if self.contrast != 1.0:
            pixels = pixels * np.float32(self.contrast)
        if self.blur_px > 0.0:
            pixels = ndimage.gaussian_filter(pixels, self.blur_px, truncate=3.0)
        if self.noise > 0.0:
            grain = rng.standard_normal(pixels.shape, dtype=np.float32)
            pixels = pixels + np.float32(self.noise) * grain
        return pixels.astype(np.float32, copy=False)


UNCHANGED = Intensity()


@dataclass(frozen=True)
class Geometry:
    """One affine map about the centre of a patch, and a left-right flip."""

    rotate_rad: float = 0.0
    scale: float = 1.0  # above 1 shows more of the image
    shift: tuple[float, float] = (0.0, 0.0)  # row, column, as shares of the patch's side
    flip: bool = False

    @property
    def is_affine(self) -> bool:
        """Whether pixels must be resampled."""
        return (self.rotate_rad, self.scale, self.shift) != (0.0, 1.0, (0.0, 0.0))

    def margin(self, patch: int) -> int:
        """px around a patch that the affine map looks at."""
        if not self.is_affine:
            return 0
        turned = abs(math.cos(self.rotate_rad)) + abs(math.sin(self.rotate_rad))
        reach = turned * (self.scale / 2 + max(map(abs, self.shift))) * patch
        return max(0, math.ceil(reach - patch / 2) + 1)

    def __call__(self, pixels: torch.Tensor, patch: int) -> torch.Tensor:
        """Map (3, H, W) = X-ray, DRR, mask to (3, patch, patch); the mask by nearest pixel."""
        if self.is_affine:
            pixels = self._resample(pixels, patch)
        return pixels.flip(-1) if self.flip else pixels

    def _resample(self, pixels: torch.Tensor, patch: int) -> torch.Tensor:
        """Wherever the pixels are; what lies beyond them is 0."""
        row, column = _centred_grid(patch, pixels.device)
        # Not as a product of matrices, which a GPU may be told to round to 10 bits.
        rows, columns = (
            torch.add(down * row, column, alpha=right).add_(offset)
            for down, right, offset in self._matrix(patch).tolist()[:2]
        )
        # From pixels to the units of grid_sample: 2 is the whole side.
        x, y = columns * (2.0 / pixels.shape[2]), rows * (2.0 / pixels.shape[1])
        where = torch.stack([x, y]).movedim(0, -1)[None]
        zeros: dict[str, Any] = {"padding_mode": "zeros", "align_corners": False}
        images = grid_sample(pixels[None, :2], where, mode="bilinear", **zeros)
        mask = grid_sample(pixels[None, 2:], where, mode="nearest", **zeros)
        return torch.cat([images[0], mask[0]])

    def _matrix(self, patch: int) -> torch.Tensor:
        """(3, 3) float32 on the CPU: from a place in the patch to where its pixel is looked up."""
        with without_mlflow():
            from monai.transforms import AffineGrid

        _, matrix = AffineGrid(
            rotate_params=self.rotate_rad,
            scale_params=(self.scale, self.scale),
            translate_params=tuple(share * patch for share in self.shift),
            lazy=True,
        )(spatial_size=(patch, patch))
        return torch.as_tensor(matrix, dtype=torch.float32)


@dataclass(frozen=True)
class Augmentation:
    """Everything random that is done to one sample."""

    geometry: Geometry = Geometry()
    xray: Intensity = Intensity()
    drr: Intensity = Intensity()

    @property
    def changes_intensity(self) -> bool:
        """Whether the grey values of either image are changed."""
        return self.xray != UNCHANGED or self.drr != UNCHANGED


IDENTITY = Augmentation()


@lru_cache(maxsize=4)
def _centred_grid(patch: int, device: torch.device) -> torch.Tensor:
    """(2, patch, patch) float32: row and column of every pixel, from the centre."""
    axis = torch.linspace(-(patch - 1) / 2, (patch - 1) / 2, patch, device=device)
    rows, columns = torch.meshgrid(axis, axis, indexing="ij")
    return torch.stack([rows, columns])


def draw_augmentation(config: AugmentConfig, rng: np.random.Generator) -> Augmentation:
    """Draw a sample's augmentation; each transform happens with `config.probability`.

    Rotation and shift are uniform within +- their limit; scale is uniform in 1 +- `scale`; gamma
    is log-uniform in 1 / (1 + gamma) to 1 + gamma; contrast is uniform in 1 +- `contrast`; noise
    and blur are uniform from 0 to their limit.
    """
    if not config.enabled:
        return IDENTITY

    def uniform(limit: float) -> float:
        # Both draws are made always, so that one option does not change another's numbers.
        happens, value = rng.random() < config.probability, rng.uniform(-1.0, 1.0)
        return float(value * limit) if happens else 0.0

    def intensity() -> Intensity:
        return Intensity(
            gamma=math.exp(uniform(math.log1p(config.gamma))),
            contrast=1.0 + uniform(config.contrast),
            blur_px=abs(uniform(config.blur_px)),
            noise=abs(uniform(config.noise)),
        )

    flip = bool(rng.random() < config.flip)
    geometry = Geometry(
        rotate_rad=uniform(math.radians(config.rotate_deg)),
        scale=1.0 + uniform(config.scale),
        shift=(uniform(config.translate), uniform(config.translate)),
        flip=flip,
    )
    return Augmentation(geometry, intensity(), intensity())


def largest_margin(config: AugmentConfig, patch: int) -> int:
    """px around a patch that is enough for whatever `draw_augmentation` may draw."""
    if not (config.enabled and config.probability):
        return 0
    widest = min(math.radians(config.rotate_deg), math.pi / 4)
    shift = (config.translate, config.translate)
    return Geometry(widest, 1.0 + config.scale, shift).margin(patch)


def render(
    case: Decoded,
    window: Window,
    augmentation: Augmentation = IDENTITY,
    rng: np.random.Generator | None = None,
    *,
    margin: int = 0,
    nodules: Sequence[Nodule] = (),
) -> torch.Tensor:
    """Cut a window out of a case: standardised, augmented, padded with 0.

    Args:
        case: the whole image's mean and standard deviation are used, whatever the window.
        window: square, in the case's pixel coordinates.
        augmentation: what is done to it.
        rng: for the noise; needed where the augmentation has any.
        margin: px beyond the window that the geometry may look at.
        nodules: synthetic ones, added to both images and to the mask before anything else.

    Returns:
        (3, side, side) float32: X-ray, DRR, mask 0/1.
    """
    region = window.grown(margin)
    shown = region.overlap(case.mask.shape)
    top, left, height, width = region.content(case.mask.shape)
    canvas = np.empty((3, region.height, region.width), dtype=np.float32)
    inside = canvas[:, top : top + height, left : left + width]
    canvas[:, :top], canvas[:, top + height :] = 0.0, 0.0
    canvas[:, :, :left], canvas[:, :, left + width :] = 0.0, 0.0
    xray, drr, mask = inside
    mask[...] = case.mask[shown]
    _standardise(case.drr[shown], case.mean[1], case.std[1], drr)
    if case.xray is case.drr:
        xray[...] = drr
    else:
        _standardise(case.xray[shown], case.mean[0], case.std[0], xray)
    origin = shown[0].start, shown[1].start
    for nodule in nodules:
        nodule.mark(mask, origin)
        nodule.brighten(xray, origin)
        nodule.brighten(drr, origin)
    if augmentation.changes_intensity:
        assert rng is not None, "noise needs a generator"
        xray[...] = augmentation.xray(xray, rng)
        drr[...] = augmentation.drr(drr, rng)
    return augmentation.geometry(torch.from_numpy(canvas), window.width)


def _standardise(pixels: npt.NDArray[Any], mean: float, std: float, out: Floats) -> None:
    """Into `out`, in float32 and without copies between: they cost as much as the arithmetic."""
    out[...] = pixels
    np.subtract(out, np.float32(mean), out=out)
    np.divide(out, np.float32(std), out=out)
