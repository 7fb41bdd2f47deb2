"""Regions (bool maps) and what is counted in them.

On a CPU NumPy compares, counts and finds the pixels of a region 5 to 30 times faster than torch
(benchmarks/metrics_cost.py), and regions are small; on another device torch does the whole batch.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from attnseg.metrics.base import wide

Pixels = npt.NDArray[np.int64]
"""Where pixels are in a flattened map, ascending: (n,)."""
Places = npt.NDArray[np.int64]
"""Their rows and columns: (n, 2)."""


def on_cpu(maps: Tensor) -> bool:
    """Whether NumPy can look at the tensor without a copy.

    Example:
        >>> on_cpu(torch.zeros(1))
        True
    """
    return maps.device.type == "cpu"


def above(maps: Tensor, bound: Tensor | float) -> Tensor:
    """`maps > bound`, by broadcasting.

    Example:
        >>> above(torch.tensor([0.2, 0.5, 0.7]), 0.5)
        tensor([False, False,  True])
    """
    if not on_cpu(maps):
        return maps > bound
    other = bound.numpy() if isinstance(bound, Tensor) else np.float32(bound)
    return torch.from_numpy(np.greater(maps.detach().numpy(), other))


def equal(maps: Tensor, value: Tensor) -> Tensor:
    """`maps == value`, by broadcasting.

    Example:
        >>> equal(torch.tensor([0.2, 0.5]), torch.tensor(0.5))
        tensor([False,  True])
    """
    if not on_cpu(maps):
        return maps == value
    return torch.from_numpy(np.equal(maps.detach().numpy(), value.detach().numpy()))


def extremes(maps: Tensor) -> tuple[Tensor, Tensor]:
    """The smallest and the largest value of each case: (B, H, W) -> (B,), (B,).

    Example:
        >>> extremes(torch.tensor([[[0.25, 0.5]]]))
        (tensor([0.2500]), tensor([0.5000]))
    """
    if not on_cpu(maps):
        return maps.amin((-2, -1)), maps.amax((-2, -1))
    values = maps.detach().flatten(1).numpy()
    return torch.from_numpy(values.min(1)), torch.from_numpy(values.max(1))


class Region:
    """A region of each case of a batch; its pixels are looked for once, however often it is used.

    Args:
        mask: (B, H, W) bool.

    Example:
        >>> region = Region(torch.tensor([[[True, True, False]]]))
        >>> region.area, region.sum(torch.tensor([[[1.0, 2.0, 4.0]]]))
        (tensor([2]), tensor([3.], dtype=torch.float64))
    """

    def __init__(self, mask: Tensor) -> None:
        self.mask = mask

    @cached_property
    def pixels(self) -> list[Pixels]:
        """Of each case."""
        return [np.flatnonzero(case) for case in self.mask.cpu().numpy()]

    @cached_property
    def area(self) -> Tensor:
        """How many pixels each case has: (B,) int64."""
        if not on_cpu(self.mask):
            return self.mask.sum((-2, -1))
        return torch.tensor([np.count_nonzero(case) for case in self.mask.numpy()])

    def sum(self, values: Tensor, less: Tensor | float = 0.0) -> Tensor:
        """The sum of `values - less` over the region: (B, H, W) -> (B,), wide.

        `less` is a number or (B,), wide.
        """
        if not on_cpu(values):
            return _sum_everywhere(values, self.mask, less)
        flat = values.detach().flatten(1).numpy()
        cases = zip(flat, self.pixels, np.broadcast_to(less, len(flat)), strict=True)
        sums = [(case[at].astype(np.float64) - minus).sum() for case, at, minus in cases]
        return torch.tensor(sums, dtype=torch.float64)

    def share_inside(self, other: Region) -> Tensor:
        """Which share of it is in another: (B,), 0 where it is empty."""
        if not on_cpu(self.mask):
            inside = (self.mask & other.mask).sum((-2, -1))
        elif "pixels" in vars(self):  # found before: nothing else needs a look
            pairs = zip(self.pixels, other.mask.flatten(1).numpy(), strict=True)
            inside = torch.tensor([np.count_nonzero(case[at]) for at, case in pairs])
        else:
            inside = Region(torch.from_numpy(self.mask.numpy() & other.mask.numpy())).area
        return wide(inside) / self.area.clamp(min=1)


def _sum_everywhere(values: Tensor, mask: Tensor, less: Tensor | float) -> Tensor:
    minus = less[:, None, None] if isinstance(less, Tensor) else less
    return ((wide(values) - minus) * mask).sum((-2, -1))


def places(pixels: Pixels, width: int) -> Places:
    """Row and column of pixels of a flattened map: (n,) -> (n, 2).

    Example:
        >>> places(np.array([5]), width=4)
        array([[1, 1]])
    """
    return np.stack(np.divmod(pixels, width), 1)
