"""What an exact resume must reproduce, and comparing it to the bit."""

from __future__ import annotations

from typing import Any

import torch

from attnseg.runs.checkpoints import read_checkpoint
from attnseg.runs.folder import RunFolder

_STATE = (
    "state_dict",
    "optimizer_states",
    "current_model_state",
    "averaging_state",
    "MixedPrecision",  # the gradients' scale
    "callbacks",
    "loops",
    "epoch",
    "global_step",
)


def assert_equal_runs(one: RunFolder, other: RunFolder) -> None:
    """Weights, optimizer, EMA, callbacks, positions and ledger: equal to the bit."""
    contents = [read_checkpoint(folder.last) for folder in (one, other)]
    first, second = ({key: c[key] for key in _STATE if key in c} for c in contents)
    assert first.keys() == second.keys()
    for key in first:
        assert same(first[key], second[key]), key
    assert contents[0]["attnseg"]["threshold"] == contents[1]["attnseg"]["threshold"]
    assert one.ledger.read_bytes() == other.ledger.read_bytes()


def same(first: Any, second: Any) -> bool:
    """Equal, NaN to NaN, without any tolerance."""
    if isinstance(first, torch.Tensor):
        return first.shape == second.shape and torch.allclose(
            first, second, rtol=0.0, atol=0.0, equal_nan=True
        )
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(same(first[k], second[k]) for k in first)
    if isinstance(first, (list, tuple)):
        return len(first) == len(second) and all(map(same, first, second))
    return bool(first == second)
