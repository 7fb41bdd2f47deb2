"""This process among those of a distributed run; with one process nothing here does anything.

Plain `torch.distributed`, so that models, losses and callbacks agree on one source.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


def place() -> tuple[int, int]:
    """(rank, number of processes)."""
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    return 0, 1


def sum_over_ranks(tensor: Tensor) -> Tensor:
    """The sum over the processes, the same on every one; gradients are summed likewise.

    A loss made of such sums is the loss of the global batch on every process; DDP's mean of
    the gradients is then that loss's own gradient. Every process has to call it.
    """
    if place()[1] == 1:
        return tensor
    total: Tensor = _Sum.apply(tensor)  # type: ignore[no-untyped-call]
    return total


def mean_over_ranks(tensor: Tensor) -> Tensor:
    """The mean over the processes, the same on every one; see `sum_over_ranks`."""
    return sum_over_ranks(tensor) / place()[1]


def gather_from_ranks(value: Any) -> list[Any]:
    """Every process's value (plain types and CPU tensors), in order of rank, on every process."""
    world_size = place()[1]
    values: list[Any] = [value] * world_size
    if world_size > 1:
        dist.all_gather_object(values, value)
    return values


def answer_within(seconds: float) -> None:
    """From now on, let an operation of the group fail that waits longer for another process.

    On GPUs NCCL's own watchdog then aborts this process.
    """
    if place()[1] > 1:
        dist.distributed_c10d._set_pg_timeout(timedelta(seconds=seconds))


def is_timeout(error: BaseException) -> bool:
    """Whether an operation of the group has failed because another process gave no answer."""
    told = str(error).lower()
    waited = "timed out" in told or "timeout" in told
    return waited and isinstance(error, RuntimeError) and place()[1] > 1


def leave_group() -> None:
    """Leave the group of processes; to be called when all that they share is done.

    Gloo's threads may still hold tensors when the interpreter ends, and then abort the process
    (pytorch/pytorch#179291): a run that was finished would count as fallen.
    """
    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()


class _Sum(torch.autograd.Function):
    """All-reduce whose backward is one, too (the adjoint of a sum over ranks)."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        total = tensor.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        total = gradient.clone()
        dist.all_reduce(total)
        return total
