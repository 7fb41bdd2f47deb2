"""Whether tensors are numbers: a value that is not finite is no value, and weights that are not
are no weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

_STATE = ("state_dict", "current_model_state", "averaging_state", "optimizer_states")
_FINE = "_attnseg_finite"
_NOT_YET = ("adaptive.last", "adaptive.last_but_one", "adaptive.initial")  # NaN until measured


def all_finite(*tensors: Tensor) -> bool:
    """Whether no tensor holds NaN or infinity; one number a device is read.

    A tensor that was fine is not asked again, as several metrics are given the same maps.
    """
    flags: dict[torch.device, list[Tensor]] = {}
    new = [tensor for tensor in tensors if not getattr(tensor, _FINE, False)]
    for tensor in new:
        flags.setdefault(tensor.device, []).append(torch.isfinite(tensor).all())
    fine = all(bool(torch.stack(of_device).all()) for of_device in flags.values())
    for tensor in new if fine else ():
        setattr(tensor, _FINE, True)
    return fine


def derived(tensor: Tensor) -> Tensor:
    """A tensor made of ones that are fine by what keeps them so; it need not be asked."""
    setattr(tensor, _FINE, True)
    return tensor


def broken_tensors(tree: Any, name: str = "") -> list[str]:
    """The names of the tensors in nested containers that hold NaN or infinity.

    An additive attention mask (nothing but 0 and minus infinity) is as it should be.
    """
    tensors = [(path, tensor) for path, tensor in _tensors(tree, name) if tensor.numel()]
    flags: dict[torch.device, list[Tensor]] = {}
    for _, tensor in tensors:  # one question a device, not one a tensor
        flags.setdefault(tensor.device, []).append(torch.isfinite(tensor).all())
    if all(bool(torch.stack(of_device).all()) for of_device in flags.values()):
        return []
    return [path for path, tensor in tensors if not (all_finite(tensor) or _is_mask(tensor))]


def broken_state(checkpoint: Mapping[str, Any]) -> list[str]:
    """The same of a training checkpoint's weights, their average, and the optimizer's moments."""
    broken = [name for key in _STATE for name in broken_tensors(checkpoint.get(key), key)]
    return [name for name in broken if not name.endswith(_NOT_YET)]


def some(names: list[str]) -> str:
    """The first name, and how many more there are."""
    return names[0] + (f" and {len(names) - 1} more" if len(names) > 1 else "")


def _tensors(tree: Any, name: str) -> Iterator[tuple[str, Tensor]]:
    if isinstance(tree, Tensor):
        if tree.is_floating_point():
            yield name, tree
    elif isinstance(tree, (Mapping, list, tuple)):
        pairs = tree.items() if isinstance(tree, Mapping) else enumerate(tree)
        for key, value in pairs:
            yield from _tensors(value, f"{name}.{key}" if name else str(key))


def _is_mask(tensor: Tensor) -> bool:
    zero = tensor == 0
    return bool(zero.any() and (zero | (tensor == -torch.inf)).all())
