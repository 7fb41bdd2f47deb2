"""Any of torch's LR schedulers as a pure function of the step.

A scheduler counts its own steps. Run once, over an optimizer of one parameter, it leaves a table
of the whole run, so that there is nothing to save and a resumed run looks up what it needs.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch


@dataclass(frozen=True)
class TabledRates:
    """What a scheduler makes of an optimizer's rate, and of what else it changes (momentum, say).

    Attributes:
        factors: of the rate, one a step of the scheduler.
        others: further values of a group that it changes, one list a key.
        batches: of an epoch.
        per_step: batches a step of the scheduler.

    Example:
        >>> TabledRates([1.0, 0.5], {}, batches=4, per_step=4)(1.25)
        0.5
    """

    factors: list[float]
    others: dict[str, list[Any]]
    batches: int
    per_step: int

    def __call__(self, progress: float) -> float:
        """The factor on every learning rate.

        Args:
            progress: epochs done, fractions included (batch / batches of an epoch).
        """
        return self.factors[self._step(progress)]

    def others_at(self, progress: float) -> dict[str, Any]:
        """What else of the optimizer's groups holds at that time."""
        return {key: values[self._step(progress)] for key, values in self.others.items()}

    def _step(self, progress: float) -> int:
        epoch, batch = divmod(round(progress * self.batches), self.batches)
        step = epoch * -(-self.batches // self.per_step) + batch // self.per_step
        return min(step, len(self.factors) - 1)


def tabulated(
    make_scheduler: Callable[..., Any],
    make_optimizer: Callable[..., Any],
    *,
    steps: int,
    batches: int,
    accumulated: int,
) -> TabledRates:
    """Run a scheduler over a whole training.

    Args:
        make_scheduler: is given `optimizer`.
        make_optimizer: is given `params`; its groups have a rate.
        steps: of the scheduler.
        batches: of an epoch.
        accumulated: batches a step of the scheduler.

    Example:
        >>> from functools import partial
        >>> halving = partial(torch.optim.lr_scheduler.StepLR, step_size=1, gamma=0.5)
        >>> sgd = partial(torch.optim.SGD, lr=0.1)
        >>> tabulated(halving, sgd, steps=3, batches=4, accumulated=4).factors
        [1.0, 0.5, 0.25]
    """
    optimizer = make_optimizer(params=[torch.nn.Parameter(torch.zeros(1, 1))])
    (group,) = optimizer.param_groups
    before = {key: value for key, value in group.items() if key not in ("params", "lr")}
    base = float(group["lr"])
    with warnings.catch_warnings():  # that the optimizer makes no steps
        warnings.simplefilter("ignore")
        scheduler = make_scheduler(optimizer=optimizer)
        factors, table = [], []
        for step in range(steps):
            if step:
                scheduler.step()
            factors.append(float(group["lr"]) / base)
            table.append([group[key] for key in before])
    columns = dict(zip(before, map(list, zip(*table, strict=True)), strict=True))
    others = {
        key: values
        for key, values in columns.items()
        if any(value != before[key] for value in values)
    }
    return TabledRates(factors, others, batches, accumulated)
