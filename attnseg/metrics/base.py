"""What the metric classes share: per-case values of the last batch, and states that gather well."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor
from torchmetrics import Metric

from attnseg.common.errors import NonFiniteError
from attnseg.common.finite import all_finite
from attnseg.component import Measure

NEUTRAL_THRESHOLD = 0.5
"""Where a mask is cut as long as no threshold is known."""

POSITIVE = "mean over the cases with a non-empty mask"
PX = "px at 512 x 512"
MM = "mm"
"""Words of many definitions."""


def wide(values: Tensor) -> Tensor:
    """Float64 where the device has it (Apple's GPUs do not), else float32.

    Example:
        >>> wide(torch.ones(1)).dtype
        torch.float64
    """
    return values.to(torch.float32 if values.device.type == "mps" else torch.float64)


def check_maps(*maps: Tensor) -> None:
    """Assert that every map is (B, 1, H, W), and all alike.

    Raises:
        NonFiniteError: a map holds NaN or infinity, which no threshold or rank has a place for.

    Example:
        >>> check_maps(torch.zeros(1, 1, 4, 4), torch.zeros(1, 1, 4, 2))
        Traceback (most recent call last):
        AssertionError: maps differ in shape: (1, 1, 4, 4), (1, 1, 4, 2)
    """
    shape = maps[0].shape
    assert len(shape) == 4 and shape[1] == 1, f"maps must be (B, 1, H, W), got {tuple(shape)}"
    for other in maps[1:]:
        assert other.shape == shape, f"maps differ in shape: {tuple(shape)}, {tuple(other.shape)}"
    if not all_finite(*maps):
        raise NonFiniteError("a map is not finite (NaN or infinite): there is nothing to measure")


class CaseMetric(Metric):
    """A metric over cases.

    One of ours has a `name` and says what it gives in `measures`; `attnseg.metrics.collection`
    finds it by its file. Its constructor may ask for `has_attention`, `threshold` and
    `evaluation`, its `update` for what `CaseMetrics.update` takes.

    `update` leaves the values of each case of its batch in `last` (name -> (B,), NaN where a
    value is not defined for a case), so that whoever needs rows of cases computes nothing
    twice. `last` is no state: it is neither reduced nor reset.

    Example:
        >>> class Pixels(CaseMetric):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.add_state("n", torch.tensor(0), dist_reduce_fx="sum")
        ...     def update(self, mask):
        ...         self.n += int(mask.sum())
        ...     def compute(self):
        ...         return {"n_mask_pixels": int(self.n)}
        >>> metric = Pixels()
        >>> metric.update(torch.ones(1, 1, 2, 2))
        >>> metric.compute()
        {'n_mask_pixels': 4}
    """

    full_state_update = False
    is_differentiable = False
    name: ClassVar[str]
    measures: ClassVar[Mapping[str, Measure]] = {}
    last: dict[str, Tensor]

    def __init__(self) -> None:
        super().__init__()
        self.last = {}
        self._row_types: dict[str, tuple[int, torch.dtype]] = {}

    def add_rows(self, name: str, width: int, dtype: torch.dtype) -> None:
        """Add a state of `width` numbers a row, gathered row by row over processes."""
        self.add_state(name, [], dist_reduce_fx="cat")
        self._row_types[name] = (width, dtype)

    def append_rows(self, name: str, rows: Tensor) -> None:
        """Add rows (n, width) to a state, kept in a few large pieces (log of how many there are).

        A small piece a case would be laid into the gaps that the maps' large temporary arrays
        leave in the heap, and keep the gaps from ever being given back: 3 MB a case at 512 px.
        """
        state: list[Tensor] = getattr(self, name)
        if len(rows):
            state.append(rows)
        while len(state) > 1 and len(state[-2]) < 2 * len(state[-1]):
            state[-2:] = [torch.cat(state[-2:])]

    def rows(self, name: str) -> Tensor:
        """All rows of a state, (n, width); n may be 0."""
        width, dtype = self._row_types[name]
        state: Tensor | list[Tensor] = getattr(self, name)
        if isinstance(state, Tensor):  # after a gather
            return state
        empty = torch.empty((0, width), dtype=dtype, device=self.device)
        return torch.cat([empty, *state])

    def sync(self, *args: Any, **kwargs: Any) -> None:
        """Gather over processes, a rank that saw no case included.

        torchmetrics sends a 1-D float tensor for an empty list, which neither fits rows nor
        other types; sending (0, width) of the right type costs nothing.
        """
        for name in self._row_types:
            if not self._is_synced:
                setattr(self, name, [self.rows(name)])
        super().sync(*args, **kwargs)

    def _apply(self, fn: Callable[[Tensor], Tensor], exclude_state: Sequence[str] = "") -> Any:
        """Move the states; to float32 first where the target has no float64 (Apple's GPUs)."""
        try:
            fn(torch.zeros((), dtype=torch.float64, device=self.device))
        except TypeError:
            for name, default in self._defaults.items():
                if isinstance(default, Tensor) and default.dtype == torch.float64:
                    self._defaults[name] = default.float()
                    setattr(self, name, getattr(self, name).float())
        return super()._apply(fn, exclude_state)


class MeanOverCases(CaseMetric):
    """Means of named per-case values, as sums and counts: exact on any split over processes.

    Example:
        >>> class Dice(MeanOverCases):
        ...     def update(self, dice):
        ...         self.add({"dice": dice}, {"dice": ~dice.isnan()})
        ...     def compute(self):
        ...         return self.means()
        >>> metric = Dice(["dice"])
        >>> metric.update(torch.tensor([1.0, 0.5, float("nan")]))
        >>> metric.compute()
        {'dice': 0.75}
    """

    sums: Tensor
    counts: Tensor

    def __init__(self, names: Iterable[str]) -> None:
        super().__init__()
        self.names = tuple(names)
        zeros = torch.zeros(len(self.names), dtype=torch.float64)
        self.add_state("sums", zeros, dist_reduce_fx="sum")
        self.add_state("counts", zeros.to(torch.int64), dist_reduce_fx="sum")

    def add(self, values: Mapping[str, Tensor], counted: Mapping[str, Tensor]) -> None:
        """Add a batch: values (B,) and, as bool (B,), which of them count.

        What counts is told by the caller and not by isfinite, so that a NaN that a broken
        model causes is seen in the mean.
        """
        numbers = torch.stack([values[name] for name in self.names], 1)
        use = torch.stack([counted[name] for name in self.names], 1)
        self.sums += torch.where(use, numbers, 0.0).sum(0).to(self.sums)
        self.counts += use.sum(0).to(self.counts)

    def means(self) -> dict[str, float]:
        """The mean of each value, NaN where no case counted."""
        means = self.sums.cpu().double() / self.counts.cpu()
        return dict(zip(self.names, means.tolist(), strict=True))
