"""Measures of maps, per case and vectorised over the batch: the formulas behind the metrics.

Nothing here knows which map is attention and which is a mask.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from scipy.spatial import KDTree
from scipy.spatial.distance import cdist
from torch import Tensor

from attnseg.metrics.base import wide
from attnseg.metrics.regions import Places, Region, equal, on_cpu, places
from attnseg.metrics.values import Map

REFERENCE_SIZE = 512
"""Distances in pixels are given as if every image were 512 x 512."""
PIECE = 32768
"""Pixels of a map that are looked at together on a CPU."""
FEW_PAIRS = 1 << 16
"""Of points, up to which all distances are computed: a tree takes longer to build."""


@dataclass(frozen=True)
class Moments:
    """First and second moments of the M maps of each case, in double precision.

    Attributes:
        low: (B, M) smallest value.
        high: (B, M) largest value.
        mean: (B, M).
        std: (B, M) population standard deviation; exactly 0 for a constant map.
        correlation: (B, M, M) Pearson; 0 for a constant map.

    Example:
        >>> ramp = torch.arange(4.0).view(1, 2, 2)
        >>> bool(moments([Map(ramp)], Region(ramp > 1)).constant.any())
        False
    """

    low: Tensor
    high: Tensor
    mean: Tensor
    std: Tensor
    correlation: Tensor

    @property
    def constant(self) -> Tensor:
        """(B, M) whether every pixel has the same value."""
        return self.low == self.high


def moments(maps: Sequence[Map], region: Region) -> Moments:
    """Moments of M - 1 maps and, as the last, of a region.

    Two passes (mean first), so that a nearly flat map keeps digits. Constancy is decided by the
    extremes, never by a rounded variance.

    Example:
        >>> ramp = torch.arange(4.0).view(1, 2, 2)
        >>> moments([Map(ramp)], Region(ramp > 1)).mean
        tensor([[1.5000, 0.5000]], dtype=torch.float64)
    """
    share = wide(region.area) / region.mask[0].numel()
    ends = [*(one.ends for one in maps), (share == 1.0, share > 0.0)]
    low, high = (wide(torch.stack(end, 1)) for end in zip(*ends, strict=True))
    mean, covariance = _central([one.values for one in maps], region, share)
    std = torch.where(low == high, 0.0, covariance.diagonal(dim1=-2, dim2=-1).sqrt())
    inverse = torch.where(std > 0, 1.0 / std, 0.0)
    inverse = torch.where(std.isnan(), torch.nan, inverse)  # a broken map stays visible
    correlation = (covariance * inverse.unsqueeze(-1) * inverse.unsqueeze(-2)).clamp(-1.0, 1.0)
    return Moments(low, high, mean, std, correlation)


def _central(maps: Sequence[Tensor], region: Region, share: Tensor) -> tuple[Tensor, Tensor]:
    """Means (B, M) and covariances (B, M, M), wide, of what `moments` is of.

    Around the mean of every 16th row, which is at most four standard deviations off (that of any
    16th of the pixels is); what it is off is put right at the end.
    """
    n_pixels = region.mask[0].numel()
    near = wide(torch.stack([one[:, ::16].mean((-2, -1)) for one in maps], 1))
    flat = [one.flatten(1).unbind() for one in maps]
    cases = zip(zip(*flat, strict=True), near, strict=True)
    products = torch.stack([_products(*case) for case in cases]) / n_pixels
    off = products[:, -1].clone()
    off[:, -1] = share
    inside = [region.sum(*one) for one in zip(maps, near.unbind(1), strict=True)]
    # The region takes the place of the ones.
    products[:, -1] = torch.stack([*inside, wide(region.area)], 1) / n_pixels
    products[:, :-1, -1] = products[:, -1, :-1]
    covariance = products - off[:, :, None] * off[:, None]
    off[:, :-1] += near
    return off, covariance


def _products(maps: Sequence[Tensor], near: Tensor) -> Tensor:
    """Sums over the pixels of all products of maps (N,) less `near` (M,), and of ones as the last:
    (M + 1, M + 1), wide.

    On a CPU in pieces, as wide copies of whole maps would not fit a cache; and always in the same
    memory, as new memory costs as much as what is done in it.
    """
    size = PIECE if on_cpu(near) else maps[0].numel()
    buffer = near.new_ones(len(maps) + 1, min(size, maps[0].numel()))
    products = near.new_zeros(len(buffer), len(buffer))
    for piece in zip(*(torch.split(one, size) for one in maps), strict=True):
        off = buffer[:, : len(piece[0])]
        for row, values in zip(off, piece, strict=False):
            row.copy_(values)
        off[:-1].sub_(near[:, None])
        products.addmm_(off, off.T)
    return products


def centre_of_mass(maps: Sequence[Tensor]) -> Tensor:
    """Centres of mass in pixels, (row, column): M maps (B, H, W) >= 0 -> (M, B, 2).

    A map without mass says nothing about where to look: its centre is the image's.

    Example:
        >>> centre_of_mass([torch.tensor([[[0.0, 0.0, 1.0]]])])
        tensor([[[0., 2.]]], dtype=torch.float64)
    """
    height, width = maps[0].shape[-2:]
    # A line's sum is safe in float32.
    by_row, by_column = (wide(torch.stack([one.sum(axis) for one in maps])) for axis in (-1, -2))
    rows = torch.arange(height, dtype=by_row.dtype, device=by_row.device)
    columns = torch.arange(width, dtype=by_row.dtype, device=by_row.device)
    moment = torch.stack([by_row @ rows, by_column @ columns], -1)
    mass = by_row.sum(-1, keepdim=True)
    centre = moment.new_tensor([(height - 1) / 2, (width - 1) / 2])
    return torch.where(mass == 0, centre, moment / torch.where(mass == 0, 1.0, mass))


def centre_of_region(region: Region) -> Tensor:
    """As `centre_of_mass`, of a region: (B, 2).

    Example:
        >>> centre_of_region(Region(torch.tensor([[[False, True, True]]])))
        tensor([[0.0000, 1.5000]], dtype=torch.float64)
    """
    if not on_cpu(region.mask):
        return centre_of_mass([region.mask.float()])[0]
    height, width = region.mask.shape[-2:]
    middle = np.array([(height - 1) / 2, (width - 1) / 2])
    centres = [places(at, width).mean(0) if len(at) else middle for at in region.pixels]
    return torch.from_numpy(np.stack(centres))


def peaks(maps: Tensor, high: Tensor, constant: Tensor) -> Region:
    """The pixels that share the maximum: maps (B, H, W), their maxima and constancy (B,).

    A constant map points nowhere: its peak is the middle of the image (the middle pixel, or the
    two or four around the middle), as its centre of mass is.

    Example:
        >>> maps = torch.tensor([[[0.0, 2.0, 2.0]]])
        >>> peaks(maps, torch.tensor([2.0]), torch.tensor([False])).mask
        tensor([[[False,  True,  True]]])
    """
    height, width = maps.shape[-2:]
    at_peak = equal(maps, high.to(maps.dtype)[:, None, None])
    rows, columns = (slice((size - 1) // 2, size // 2 + 1) for size in (height, width))
    for case in constant.nonzero()[:, 0].tolist():
        at_peak[case] = False
        at_peak[case, rows, columns] = True
    return Region(at_peak)


def distances_to_mask(points: Region, mask: Region, scales: Tensor) -> Tensor:
    """Mean distance from the marked points to the nearest pixel of the mask, per case.

    Args:
        points: a case without any gives NaN.
        mask: of the same size.
        scales: (U, B, 2) length of a pixel along rows and columns, in each of U units.

    Returns:
        (U, B), 0 for a point in the mask; NaN where the mask is empty or the scale is not known.

    Example:
        >>> points, mask = torch.tensor([[[True, False, False]], [[False, False, True]]]).unbind()
        >>> distances_to_mask(Region(points[None]), Region(mask[None]), torch.ones(1, 1, 2))
        tensor([[2.]], dtype=torch.float64)
    """
    width = mask.mask.shape[-1]
    pairs = zip(points.pixels, mask.pixels, strict=True)
    ends = [(places(one, width), places(other, width)) for one, other in pairs]
    in_units = scales.cpu().double().numpy()
    means = [[_mean_distance(*case) for case in zip(ends, unit, strict=True)] for unit in in_units]
    return torch.tensor(means, dtype=torch.float64).to(wide(scales))


def _mean_distance(ends: tuple[Places, Places], scale: npt.NDArray[np.float64]) -> float:
    """From places (n, 2) to the nearest of others (m, 2)."""
    points, mask = (places * scale for places in ends)
    if not len(points) or not len(mask) or not np.isfinite(scale).all():
        return float("nan")
    if len(points) * len(mask) <= FEW_PAIRS:  # peaks are few, and nodules small
        return float(cdist(points, mask).min(1).mean())
    return float(KDTree(mask).query(points)[0].mean())


def reference_scale(maps: Tensor) -> Tensor:
    """Length of a pixel of (B, 1, H, W) maps in pixels of a 512 x 512 image: (B, 2).

    Example:
        >>> reference_scale(torch.zeros(1, 1, 256, 128))
        tensor([[2., 4.]])
    """
    height, width = maps.shape[-2:]
    scale = torch.tensor([REFERENCE_SIZE / height, REFERENCE_SIZE / width], device=maps.device)
    return scale.expand(len(maps), 2)
