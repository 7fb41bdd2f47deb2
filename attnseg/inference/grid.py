"""An image to the model's square and its maps back to the image's own grid.

The way there is training's own: the longer side scaled to the size, standardised by the whole
image's mean and standard deviation, padded with 0. Only what training does not know is added:
pixels that are not square are made so, and an image may be scaled to several times the size and
read in tiles.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from attnseg.common.errors import DataError
from attnseg.data.cache import decode_images
from attnseg.data.record import Decoded
from attnseg.data.transforms import render
from attnseg.imaging.case import CaseImages, Spacing
from attnseg.imaging.resize import fitted_shape, match_grid, resize_image
from attnseg.imaging.window import Window, full_window

Image = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Prepared:
    """A case ready for the model.

    Attributes:
        decoded: both images, scaled; their longer side is `tiles` times the model's size.
        shape: (H, W) of the image's own grid.
        size: side of the model's square, px.
        windows: what is read of the scaled image, each a square of `size`.
    """

    decoded: Decoded
    shape: tuple[int, int]
    size: int
    windows: tuple[Window, ...]

    def inputs(self, index: int) -> Tensor:
        """X-ray and DRR of one window, (2, size, size) float32."""
        return render(self.decoded, self.windows[index])[:2]


def prepare(
    xray: npt.NDArray[Any],
    drr: npt.NDArray[Any],
    size: int,
    *,
    aspect: float = 1.0,
    tiles: int = 1,
    overlap: float = 0.25,
) -> Prepared:
    """Scale and divide an X-ray and a DRR, both (H, W) on one grid.

    Args:
        xray, drr: any real dtype, bright where absorbed.
        size: side of the model's square.
        aspect: height of a pixel by its width.
        tiles: the longer side becomes so many times `size`, but never longer than it is.
        overlap: share of a tile's side that its neighbour sees, too.
    """
    shape = (xray.shape[0], xray.shape[1])
    square = shape if aspect == 1.0 else square_shape(shape, aspect)
    side = size if tiles == 1 else max(size, min(tiles * size, max(square)))
    if aspect != 1.0:
        target = fitted_shape(square, side)
        xray, drr = resize_image(xray, target), resize_image(drr, target)
    blank = np.zeros(xray.shape, dtype=np.uint8)
    decoded = decode_images(CaseImages(xray=xray, drr=drr, mask=blank), side)
    fitted = (decoded.mask.shape[0], decoded.mask.shape[1])
    return Prepared(decoded, shape, size, tuple(tile_windows(fitted, size, overlap)))


def square_shape(shape: tuple[int, int], aspect: float) -> tuple[int, int]:
    """(H, W) of the same area shown in square pixels, without losing any resolution."""
    height, width = shape
    if aspect > 1.0:
        return max(1, round(height * aspect)), width
    return height, max(1, round(width / aspect))


def tile_windows(shape: tuple[int, int], size: int, overlap: float) -> list[Window]:
    """Squares of `size` that cover an image; one that fits is one window, at its centre."""
    if max(shape) <= size:
        return [full_window(shape, size)]
    starts = [_starts(length, size, overlap) for length in shape]
    return [Window(top, left, size, size) for top in starts[0] for left in starts[1]]


def _starts(length: int, size: int, overlap: float) -> list[int]:
    if length <= size:
        return [-((size - length) // 2)]
    stride = max(1, round(size * (1 - overlap)))
    count = -(-(length - size) // stride) + 1
    return [round(index * (length - size) / (count - 1)) for index in range(count)]


class Canvas:
    """Maps of the scaled image, put together from windows; overlapping ones are blended.

    A window weighs most at its centre and least (but more than nothing) at its border, so that
    no seam shows; where a single window sees a pixel its value is taken as it is.

    Args:
        prepared: the case.
        n_maps: how many maps each window brings.
    """

    def __init__(self, prepared: Prepared, n_maps: int) -> None:
        self._prepared = prepared
        shape = prepared.decoded.mask.shape
        self._sum = torch.zeros((n_maps, *shape))
        self._weight = torch.zeros(shape)
        self._profile = _profile(prepared.size)

    def add(self, index: int, maps: Tensor) -> None:
        """Add a window's maps (n_maps, size, size) on the CPU."""
        window, shape = self._prepared.windows[index], self._prepared.decoded.mask.shape
        top, left, height, width = window.content(shape)
        inside = maps[:, top : top + height, left : left + width]
        rows, columns = window.overlap(shape)
        if len(self._prepared.windows) == 1:
            self._sum[:, rows, columns], self._weight[rows, columns] = inside, 1.0
            return
        weight = self._profile[top : top + height, left : left + width]
        self._sum[:, rows, columns] += inside * weight
        self._weight[rows, columns] += weight

    def scaled(self) -> Tensor:
        """The maps (n_maps, h, w) at the scaled size."""
        assert bool((self._weight > 0).all()), "a pixel that no window sees"
        return self._sum / self._weight

    def maps(self) -> npt.NDArray[np.float32]:
        """The maps (n_maps, H, W) on the image's own grid; the same where the sizes agree."""
        scaled = self.scaled()
        if tuple(scaled.shape[-2:]) != self._prepared.shape:
            scaled = F.interpolate(
                scaled[None],
                self._prepared.shape,
                mode="bilinear",
                align_corners=False,
                antialias=True,
            )[0]
        return np.asarray(scaled.numpy(), dtype=np.float32)


def _profile(size: int) -> Tensor:
    """(size, size) weights: a raised cosine that is 1 at the centre and 0.001 at the corners."""
    place = (torch.arange(size) + 0.5) / size
    ramp = (torch.sin(torch.pi * place) ** 2).clamp_min(0.03)
    return ramp[:, None] * ramp[None, :]


def on_grid(
    drr: npt.NDArray[Any],
    drr_spacing: Spacing | None,
    shape: tuple[int, int],
    spacing: Spacing | None,
    *,
    name: str,
    resample: bool,
) -> npt.NDArray[Any]:
    """The DRR on the X-ray's grid.

    Raises:
        DataError: it lies on another grid and `resample` is False, or there is no telling how.
    """
    same = drr_spacing is None or spacing is None
    if drr_spacing is not None and spacing is not None:
        same = all(
            abs(a - b) <= 0.01 * max(a, b) for a, b in zip(drr_spacing, spacing, strict=True)
        )
    if drr.shape == shape and same:
        return drr
    found, wanted = _described(drr.shape, drr_spacing), _described(shape, spacing)
    if not resample:
        raise DataError(
            f"{name}: the DRR is {found}, but its X-ray is {wanted}; on_mismatch=resample would "
            "bring it there"
        )
    matched = match_grid(drr, drr_spacing, shape, spacing)
    if matched is None:
        raise DataError(
            f"{name}: the DRR is {found}, of another aspect than its X-ray ({wanted}), and "
            "without the spacing of both there is no telling how they lie"
        )
    return matched


def _described(shape: tuple[int, ...], spacing: Spacing | None) -> str:
    size = f"{shape[0]} x {shape[1]} px"
    return size if spacing is None else f"{size} at {spacing[0]:g} x {spacing[1]:g} mm"
