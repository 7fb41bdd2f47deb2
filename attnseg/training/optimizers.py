"""The optimizer: ours, or anybody's, over a network's groups."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any

import torch
from torch import nn

from attnseg.build import build
from attnseg.common.errors import ConfigError
from attnseg.common.importing import find_class
from attnseg.component import Doc, Ge, Gt, Lt, NonNegative
from attnseg.config.training import OptimConfig, needs_closure

_NOT_DECAYED = "no_decay"

Beta = Annotated[float, Ge(0), Lt(1)]


class AdamW(torch.optim.AdamW):
    """torch's, with our defaults."""

    name = "adamw"

    def __init__(
        self,
        params: Iterable[Any],
        *,
        lr: Annotated[float, Gt(0), Doc("base rate")] = 1e-3,
        weight_decay: Annotated[NonNegative, Doc("not of biases and norms")] = 1e-2,
        betas: Annotated[tuple[Beta, Beta], Doc("of the two moments")] = (0.9, 0.999),
        fused: Annotated[bool, Doc("the whole step in one kernel")] = False,
    ) -> None:
        super().__init__(params, lr=lr, weight_decay=weight_decay, betas=betas, fused=fused or None)


def build_optimizer(
    optim: OptimConfig, groups: Mapping[str, Sequence[nn.Parameter]]
) -> torch.optim.Optimizer:
    """An optimizer over named groups; decay is for what has two dimensions or more.

    Biases, norms and scalars have nothing that decay should pull to zero.

    Args:
        optim: what is configured.
        groups: the parameters that train, by group.

    Raises:
        ConfigError: somebody else's class fails, is no optimizer, or needs a closure.
    """
    divided = []
    for name, members in groups.items():
        for ending, some in (
            ("", [p for p in members if p.ndim > 1 and name != "loss"]),
            (f"/{_NOT_DECAYED}", [p for p in members if p.ndim <= 1 or name == "loss"]),
        ):
            if some:
                divided.append({"params": some, "name": f"{name}{ending}"})
    step = getattr(find_class(optim.target), "step", None)
    closure = inspect.signature(step).parameters.get("closure") if step else None
    if closure is not None and closure.default is closure.empty:  # inherited: source did not tell
        raise ConfigError(f"optim: {needs_closure(optim.target)}")
    made = build(optim, params=divided)
    if not isinstance(made, torch.optim.Optimizer):
        raise ConfigError(f"optim: {optim.target} makes no torch.optim.Optimizer")
    for group in made.param_groups:
        if group["name"].endswith(_NOT_DECAYED) and "weight_decay" in group:
            group["weight_decay"] = 0.0
    return made


def group_of(group: Mapping[str, Any]) -> str:
    """Which part of the network a group of an optimizer is of: attention, head, backbone, loss."""
    return str(group["name"]).partition("/")[0]
