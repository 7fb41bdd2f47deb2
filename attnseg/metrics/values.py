"""Maps whose values are looked through once, however many metrics ask.

As in `regions`, NumPy does on a CPU, case by case, what torch does elsewhere for the whole batch.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from attnseg.metrics.regions import Region, above, extremes, on_cpu

Values = npt.NDArray[np.float32]
Counts = npt.NDArray[np.int64]

_DARK = 0.001
"""Most of a trained network's pixels are below: they need no order among themselves."""


class Map:
    """A map of each case of a batch.

    Args:
        values: (B, H, W) float.

    Example:
        >>> one = Map(torch.arange(20.0).view(1, 4, 5))
        >>> one.ends, int(one.top_decile.area)
        ((tensor([0.]), tensor([19.])), 2)
    """

    def __init__(self, values: Tensor) -> None:
        self.values = values.detach().float()

    @cached_property
    def ends(self) -> tuple[Tensor, Tensor]:
        """The smallest and the largest value of each case: (B,), (B,)."""
        return extremes(self.values)

    @cached_property
    def top_decile(self) -> Region:
        """The pixels strictly above the 90th percentile.

        The percentile is NumPy's, linearly interpolated between the order statistics k and k + 1,
        k = floor(0.9 (N - 1)). It never reaches a k + 1 that differs from k, so the pixels above
        it are exactly those above order statistic k: no interpolation, and no rounding. Ties can
        leave fewer than a tenth of the pixels, a constant map none.
        """
        n = self.values[0].numel()
        bound = self._order_statistic(9 * (n - 1) // 10)
        return Region(above(self.values, bound[:, None, None]))

    def _order_statistic(self, k: int) -> Tensor:
        """The value with k values before it, of each case: (B,)."""
        flat = self.values.flatten(1)
        if on_cpu(flat):  # NumPy's selection is about 8 times faster than kthvalue
            return torch.from_numpy(np.partition(flat.numpy(), k, axis=-1)[:, k].copy())
        # kthvalue is refused on CUDA where deterministic algorithms are asked for
        return flat.topk(flat.shape[1] - k, dim=-1, sorted=False).values.amin(-1)


class RankedMap(Map):
    """A map that is also counted above many thresholds: one sort serves all that is asked.

    Example:
        >>> one = RankedMap(torch.arange(4.0).view(1, 2, 2))
        >>> one.n_above(torch.tensor([0.5, 2.5]), Region(torch.ones(1, 2, 2) > 0))[0]
        tensor([[3, 1]])
    """

    @cached_property
    def ends(self) -> tuple[Tensor, Tensor]:
        """As of any map."""
        if not on_cpu(self.values):
            return extremes(self.values)
        low, high = zip(*(ranks.ends() for ranks in self._ranks), strict=True)
        return torch.tensor(np.array(low)), torch.tensor(np.array(high))

    def n_above(self, thresholds: Tensor, region: Region) -> tuple[Tensor, Tensor]:
        """How many pixels of each case are strictly above each threshold.

        Args:
            thresholds: (K,) float32, ascending. NaN is above every one.
            region: of the same size.

        Returns:
            of all pixels (B, K) and of those in the region (B, K), int64.
        """
        flat = self.values.flatten(1)
        if on_cpu(flat):
            limits = thresholds.numpy()
            inside = [Ranks(case[at]) for case, at in zip(flat.numpy(), region.pixels, strict=True)]
            everywhere, within = (
                np.array([ranks.n_above(limits) for ranks in of], dtype=np.int64)
                for of in (self._ranks, inside)
            )
            return torch.from_numpy(everywhere), torch.from_numpy(within)
        n_cases, n_bins = len(flat), len(thresholds) + 1
        case = torch.arange(n_cases, device=flat.device)[:, None]
        # bucketize counts the thresholds strictly below a value: the pixel is above those.
        cell = torch.bucketize(flat, thresholds) + n_bins * (region.mask.flatten(1) + 2 * case)
        histogram = torch.bincount(cell.flatten(), minlength=2 * n_bins * n_cases)
        higher = histogram.view(n_cases, 2, n_bins).flip(-1).cumsum(-1).flip(-1)[..., 1:]
        return higher.sum(1), higher[:, 1]

    def _order_statistic(self, k: int) -> Tensor:
        if not on_cpu(self.values):
            return super()._order_statistic(k)
        return torch.tensor(np.array([ranks.order_statistic(k) for ranks in self._ranks]))

    @cached_property
    def _ranks(self) -> list[Ranks]:
        return [Ranks(case) for case in self.values.flatten(1).numpy()]


class Ranks:
    """The values of one map in order. NaN is the largest.

    Args:
        values: (N,).

    Example:
        >>> Ranks(np.float32([0.5, 0.1])).order_statistic(1)
        np.float32(0.5)
    """

    def __init__(self, values: Values) -> None:
        self._values = values
        bright = ~(values <= np.float32(_DARK))
        n_bright = np.count_nonzero(bright)
        few = 2 * n_bright < len(values)
        self._bright = np.sort(values[np.flatnonzero(bright)] if few else values)
        self._n_dark = len(values) - n_bright if few else 0

    def ends(self) -> tuple[np.float32, np.float32]:
        """The smallest and the largest value; both NaN where there is one."""
        if self._n_dark:
            return self._values.min(), self._values.max()
        largest = self._bright[-1]
        return (largest if np.isnan(largest) else self._bright[0]), largest

    def order_statistic(self, k: int) -> np.float32:
        """The value with k values before it."""
        if k < self._n_dark:
            return np.float32(np.partition(self._values, k)[k])
        return np.float32(self._bright[k - self._n_dark])

    def n_above(self, limits: Values) -> Counts:
        """How many values are above each limit, which ascend."""
        counts = len(self._bright) - np.searchsorted(self._bright, limits, side="right")
        for number in np.flatnonzero(limits < np.float32(_DARK)):
            counts[number] = np.count_nonzero(~(self._values <= limits[number]))
        return counts


class Prepared:
    """What several metrics need of one batch.

    Args:
        probability: (B, 1, H, W) in [0, 1], of the predicted mask.
        mask: (B, 1, H, W) ground truth, 0 or 1.

    Example:
        >>> Prepared(torch.ones(1, 1, 4, 4), torch.ones(1, 1, 4, 4)).truth.area
        tensor([16])
    """

    def __init__(self, probability: Tensor, mask: Tensor) -> None:
        self.probability = RankedMap(probability[:, 0])
        self.truth = Region(above(mask[:, 0], 0.5))
