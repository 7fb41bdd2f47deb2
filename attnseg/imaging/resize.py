"""Fitting an image and its mask into the model's square: scaled, never stretched.

The longer side becomes `size`; images are antialiased; a mask stays binary and each of its
lesions (8-connected components) keeps at least one pixel. Scale 1 leaves every pixel untouched.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from scipy import ndimage

from attnseg.common.connectivity import EIGHT
from attnseg.imaging.case import CaseImages, Spacing


def fitted_shape(shape: tuple[int, int], size: int) -> tuple[int, int]:
    """(H, W) after scaling the longer side to `size`, aspect kept to the pixel."""
    scale = size / max(shape)
    return max(1, round(shape[0] * scale)), max(1, round(shape[1] * scale))


def fit_images(images: CaseImages, size: int) -> CaseImages:
    """Scale a case so that its longer side is `size`; the spacing grows as the pixels do."""
    old = images.mask.shape
    new = fitted_shape((old[0], old[1]), size)
    if new == old:
        return images
    spacing: Spacing | None = None
    if images.spacing is not None:
        spacing = images.spacing[0] * old[0] / new[0], images.spacing[1] * old[1] / new[1]
    return CaseImages(
        xray=resize_image(images.xray, new),
        drr=resize_image(images.drr, new),
        mask=resize_mask(images.mask, new),
        spacing=spacing,
    )


def resize_image(pixels: npt.NDArray[Any], shape: tuple[int, int]) -> npt.NDArray[Any]:
    """Antialiased bilinear resampling of (H, W) to `shape`; integer dtypes are rounded back."""
    if pixels.shape == shape:
        return pixels
    resized = _interpolate(pixels, shape)
    if np.issubdtype(pixels.dtype, np.integer):
        return np.rint(resized).astype(pixels.dtype)
    return resized


def resize_mask(mask: npt.NDArray[np.uint8], shape: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """Resample a 0/1 mask (H, W) to `shape`: half-covered pixels are inside, no lesion vanishes.

    A lesion too small to cover half a pixel keeps its area instead, and at least one pixel:
    the pixels that hold most of it.
    """
    if mask.shape == shape:
        return mask
    # As the images: the same kernel, so that a lesion's edge is where the image shows it.
    resized = (_interpolate(mask, shape) >= 0.5).astype(np.uint8)
    labels, count = ndimage.label(mask, structure=EIGHT)
    scale = shape[0] / mask.shape[0], shape[1] / mask.shape[1]
    for number, box in enumerate(ndimage.find_objects(labels, count), start=1):
        rows, columns = np.nonzero(labels[box] == number)
        # In whole numbers: a quotient of floats can fall just short of the next pixel.
        landing_row = (2 * (rows + box[0].start) + 1) * shape[0] // (2 * mask.shape[0])
        landing_column = (2 * (columns + box[1].start) + 1) * shape[1] // (2 * mask.shape[1])
        if resized[landing_row, landing_column].any():
            continue
        pixels, hits = np.unique(landing_row * shape[1] + landing_column, return_counts=True)
        keep = max(1, round(len(rows) * scale[0] * scale[1]))
        resized.flat[pixels[np.argsort(-hits, kind="stable")[:keep]]] = 1
    return resized


def match_grid(
    pixels: npt.NDArray[Any],
    spacing: Spacing | None,
    shape: tuple[int, int],
    target_spacing: Spacing | None,
    *,
    is_mask: bool = False,
) -> npt.NDArray[Any] | None:
    """Bring an image onto another grid, or None where that would be a guess.

    With both spacings known the image is scaled to the target's spacing and cropped or padded
    around its centre; with either unknown it is scaled onto the target, if the aspects agree.
    Pixels outside the image get its smallest value (for a mask: 0).
    """
    resize = resize_mask if is_mask else resize_image
    if spacing is None or target_spacing is None:
        if not _close(pixels.shape[0] / pixels.shape[1], shape[0] / shape[1], 0.02):
            return None
        return resize(pixels, shape)
    extent = pixels.shape[0] * spacing[0], pixels.shape[1] * spacing[1]
    if all(_close(extent[i], shape[i] * target_spacing[i], 0.01) for i in (0, 1)):
        return resize(pixels, shape)
    scaled = (
        max(1, round(extent[0] / target_spacing[0])),
        max(1, round(extent[1] / target_spacing[1])),
    )
    return _centre(resize(pixels, scaled), shape, 0 if is_mask else pixels.min())


def _centre(pixels: npt.NDArray[Any], shape: tuple[int, int], fill: Any) -> npt.NDArray[Any]:
    """Crop or pad (H, W) to `shape` around the centre."""
    out = np.full(shape, fill, dtype=pixels.dtype)
    source, target = [], []
    for have, want in zip(pixels.shape, shape, strict=True):
        common = min(have, want)
        source.append(slice((have - common) // 2, (have - common) // 2 + common))
        target.append(slice((want - common) // 2, (want - common) // 2 + common))
    out[tuple(target)] = pixels[tuple(source)]
    return out


def _interpolate(pixels: npt.NDArray[Any], shape: tuple[int, int]) -> npt.NDArray[np.float32]:
    tensor = torch.from_numpy(pixels.astype(np.float32))[None, None]
    resized = F.interpolate(tensor, shape, mode="bilinear", align_corners=False, antialias=True)
    return resized[0, 0].numpy()


def _close(first: float, second: float, tolerance: float) -> bool:
    return abs(first - second) <= tolerance * max(first, second)
