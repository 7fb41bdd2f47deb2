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
from torch import Tensor

from attnseg.metrics.base import wide
from attnseg.metrics.regions import above, count, equal, on_cpu, places, sum_inside

REFERENCE_SIZE = 512
"""Distances in pixels are given as if every image were 512 x 512."""
PIECE = 16384
"""Pixels of a map that are looked at together on a CPU."""


@dataclass(frozen=True)
class Moments:
    """First and second moments of the M maps of each case, in double precision.

    Attributes:
        low: (B, M) smallest value.
        high: (B, M) largest value.
        mean: (B, M).
        std: (B, M) population standard deviation; exactly 0 for a constant map.
        correlation: (B, M, M) Pearson; 0 for a constant map.
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


def moments(maps: Tensor, region: Tensor) -> Moments:
    """Moments of (B, M - 1, N) maps and, as the last, of a region (B, N) bool.

    Two passes (mean first), so that a nearly flat map keeps digits. Constancy is decided by the
    extremes, never by a rounded variance.
    """
    low, high = maps.amin(-1), maps.amax(-1)  # aminmax(dim) is 10 times slower on a CPU
    share = wide(count(region)) / region.shape[-1]
    cases = [_central(case, inside) for case, inside in zip(maps, region, strict=True)]
    covariance = torch.stack([products for _, products in cases])
    # Of a region with itself; with the maps it was summed above.
    last = torch.cat([covariance[..., -1], (share * (1.0 - share))[:, None]], 1)
    covariance = torch.cat([covariance, last[:, None]], 1)
    low = torch.cat([wide(low), wide(share == 1.0)[:, None]], 1)
    high = torch.cat([wide(high), wide(share > 0.0)[:, None]], 1)
    std = torch.where(low == high, 0.0, covariance.diagonal(dim1=-2, dim2=-1).sqrt())
    inverse = torch.where(std > 0, 1.0 / std, 0.0)
    inverse = torch.where(std.isnan(), torch.nan, inverse)  # a broken map stays visible
    correlation = (covariance * inverse.unsqueeze(-1) * inverse.unsqueeze(-2)).clamp(-1.0, 1.0)
    mean = torch.cat([torch.stack([mean for mean, _ in cases]), share[:, None]], 1)
    return Moments(low, high, mean, std, correlation)


def _central(maps: Tensor, region: Tensor) -> tuple[Tensor, Tensor]:
    """Means (M,) of maps (M, N), and their mean central products with each other and, as the
    last column, with a region (N,) bool: (M, M + 1); both wide.

    Around a mean in single precision, which is only near it; what it is off is put right at the
    end. In pieces, as wide copies of whole maps would not fit a cache.
    """
    n_pixels = maps.shape[-1]
    near = wide(maps.mean(-1, keepdim=True))
    sums, products = near.new_zeros(len(maps)), near.new_zeros(len(maps), len(maps))
    for values in torch.split(maps, PIECE if on_cpu(maps) else n_pixels, -1):
        off = values - near
        sums += off.sum(-1)
        products.addmm_(off, off.T)
    with_region = sum_inside(maps, region, less=near)
    off = torch.cat([sums, wide(count(region[None]))]) / n_pixels
    products = torch.cat([products, with_region[:, None]], 1) / n_pixels
    return near[:, 0] + off[:-1], products - off[:-1, None] * off


def top_decile(maps: Tensor) -> Tensor:
    """The pixels strictly above the 90th percentile: maps (..., N) -> bool.

    The percentile is NumPy's, linearly interpolated between the order statistics k and k + 1,
    k = floor(0.9 (N - 1)). It never reaches a k + 1 that differs from k, so the pixels above it
    are exactly those above order statistic k: no interpolation, and no rounding. Ties can leave
    fewer than a tenth of the pixels, a constant map none.
    """
    n = maps.shape[-1]
    k = 9 * (n - 1) // 10
    if on_cpu(maps):  # NumPy's selection is about 8 times faster than kthvalue
        partitioned = np.partition(maps.detach().numpy(), k, axis=-1)
        bound = torch.from_numpy(np.ascontiguousarray(partitioned[..., k]))
    else:  # kthvalue is refused on CUDA where deterministic algorithms are asked for
        bound = maps.topk(n - k, dim=-1, sorted=False).values.amin(-1)
    return above(maps, bound.unsqueeze(-1))


def share_inside(of: Tensor, inside: Tensor) -> Tensor:
    """|of & inside| / |of|, 0 where `of` is empty: two (B, N) bool -> (B,)."""
    return wide(count(of & inside)) / count(of).clamp(min=1)


def centre_of_mass(maps: Tensor) -> Tensor:
    """Centre of mass in pixels, (row, column): maps (..., H, W) >= 0 -> (..., 2).

    A map without mass says nothing about where to look: its centre is the image's.
    """
    height, width = maps.shape[-2:]
    by_row, by_column = wide(maps.sum(-1)), wide(maps.sum(-2))  # a line's sum is safe in float32
    rows = torch.arange(height, dtype=by_row.dtype, device=maps.device)
    columns = torch.arange(width, dtype=by_row.dtype, device=maps.device)
    moment = torch.stack([by_row @ rows, by_column @ columns], -1)
    mass = by_row.sum(-1, keepdim=True)
    centre = moment.new_tensor([(height - 1) / 2, (width - 1) / 2])
    return torch.where(mass == 0, centre, moment / torch.where(mass == 0, 1.0, mass))


def centre_of_region(region: Tensor) -> Tensor:
    """As `centre_of_mass`, of a region: (B, H, W) bool -> (B, 2)."""
    if not on_cpu(region):
        return centre_of_mass(region.float())
    height, width = region.shape[-2:]
    middle = np.array([(height - 1) / 2, (width - 1) / 2])
    found = [places(case) for case in region.numpy()]
    return torch.from_numpy(np.stack([at.mean(0) if len(at) else middle for at in found]))


def peaks(maps: Tensor, constant: Tensor) -> Tensor:
    """The pixels that share the maximum: maps (B, H, W), constant (B,) -> (B, H, W) bool.

    A constant map points nowhere: its peak is the middle of the image (the middle pixel, or the
    two or four around the middle), as its centre of mass is.
    """
    height, width = maps.shape[-2:]
    at_peak = equal(maps, maps.amax((-2, -1), keepdim=True))
    rows, columns = (slice((size - 1) // 2, size // 2 + 1) for size in (height, width))
    for case in constant.nonzero()[:, 0].tolist():
        at_peak[case] = False
        at_peak[case, rows, columns] = True
    return at_peak


def distances_to_mask(points: Tensor, mask: Tensor, scales: Sequence[Tensor]) -> list[Tensor]:
    """Mean distance from the marked points to the nearest pixel of the mask, per case.

    Args:
        points: (B, H, W) bool; a case without any gives NaN.
        mask: (B, H, W) bool.
        scales: each (B, 2): length of a pixel along rows and columns, in a unit.

    Returns:
        For each unit (B,), 0 for a point in the mask; NaN where the mask is empty or the scale
        is not known.
    """
    along = torch.stack([scale.double().cpu() for scale in scales], 1).numpy()
    cases = zip(points.cpu().numpy(), mask.cpu().numpy(), along, strict=True)
    means = [_mean_distances(*case) for case in cases]
    columns = torch.tensor(means, dtype=torch.float64).reshape(-1, len(scales)).unbind(1)
    return [column.to(wide(points[:, 0, 0])) for column in columns]


def _mean_distances(
    points: npt.NDArray[np.bool_], mask: npt.NDArray[np.bool_], scales: npt.NDArray[np.float64]
) -> list[float]:
    """One case of `distances_to_mask`, by k-d trees: peaks are few, and nodules small."""
    at, inside = places(points), places(mask)
    outside = at[~mask[at[:, 0], at[:, 1]]]

    def mean(scale: npt.NDArray[np.float64]) -> float:
        if not len(at) or not len(inside) or not np.isfinite(scale).all():
            return float("nan")
        if not len(outside):
            return 0.0
        return float(KDTree(inside * scale).query(outside * scale)[0].sum()) / len(at)

    return [mean(scale) for scale in scales]


def reference_scale(maps: Tensor) -> Tensor:
    """Length of a pixel of (B, 1, H, W) maps in pixels of a 512 x 512 image: (B, 2)."""
    height, width = maps.shape[-2:]
    scale = torch.tensor([REFERENCE_SIZE / height, REFERENCE_SIZE / width], device=maps.device)
    return scale.expand(len(maps), 2)
