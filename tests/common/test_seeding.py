"""Every step is seeded alike, and cheaply."""

from __future__ import annotations

import traceback

import pytest
import torch

from attnseg.common.seeding import derive_seed, seed_step


def test_a_step_is_seeded_as_torch_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """... but without a formatted stack for each kind of device that is not there."""
    torch.manual_seed(derive_seed("step", 1, 2, 3))
    wanted = torch.rand(4)
    monkeypatch.setattr(traceback, "format_stack", lambda *_, **__: pytest.fail("a stack"))
    seed_step(1, 2, 3, torch.device("cpu"))
    assert torch.equal(torch.rand(4), wanted)


def test_the_device_is_seeded_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    seeds: list[int] = []
    monkeypatch.setattr(torch.cuda, "manual_seed", seeds.append)
    seed_step(1, 2, 3, torch.device("cuda", 0))
    assert seeds == [derive_seed("step", 1, 2, 3)]


def test_other_keys_give_other_seeds() -> None:
    seeds = {derive_seed("step", *key) for key in ((1, 2, 3), (1, 2, 4), (1, 3, 3), (2, 2, 3))}
    assert len(seeds) == 4
