"""Seeds as a pure function of where a run stands: no hidden RNG state, so none to save."""

from __future__ import annotations

import hashlib

import torch


def derive_seed(*key: int | str) -> int:
    """A 63-bit seed from a key; the same on every machine, other keys give unrelated seeds."""
    digest = hashlib.sha256("/".join(map(str, key)).encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


def seed_step(seed: int, epoch: int, batch: int, device: torch.device) -> None:
    """Seed torch for one training step, so that dropout there depends on nothing before it.

    The CPU's generator and the device's own: `torch.manual_seed` would also format the stack for
    each kind of device that is not there, which takes longer than all else around a step.

    The same on every process: what is drawn for the global batch is drawn alike everywhere, and
    each process uses the part of its own cases (`ChannelDropout`).
    """
    value = derive_seed("step", seed, epoch, batch)
    torch.default_generator.manual_seed(value)
    if device.type != "cpu":
        torch.get_device_module(device).manual_seed(value)
