"""Doing something once for every case, in a few processes, under a progress bar."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from typing import Generic, TypeVar

import torch
from torch.utils.data import DataLoader, Dataset

from attnseg.common.signals import worker_options

Item = TypeVar("Item")
Result = TypeVar("Result")
_WORTH_PROCESSES = 16  # fewer items are done before the processes have started


def default_workers() -> int:
    """Processes for decoding: at most 4, and no more than the CPUs that this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    cpus = len(affinity(0)) if affinity is not None else (os.cpu_count() or 1)
    return min(4, cpus)


def for_each(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    *,
    description: str,
    workers: int | None = None,
    progress: bool = True,
    worth_processes: int = _WORTH_PROCESSES,
) -> list[Result]:
    """[function(item) for item in items], in order.

    Args:
        function: picklable, as are its results; it runs in other processes.
        items: what to call it with.
        description: shown beside the progress bar.
        workers: processes; None takes `default_workers`, 0 stays in this process.
        progress: draw a bar on stderr.
        worth_processes: fewer items are done in this process.
    """
    workers = default_workers() if workers is None else workers
    if workers == 1 or len(items) < worth_processes:
        workers = 0
    # torch's loader rather than a pool: it survives forking a process that has used OpenMP.
    loader: DataLoader[Result] = DataLoader(
        _Calls(function, items),
        batch_size=None,
        **worker_options(workers),
        collate_fn=_identity,
        generator=torch.Generator(),  # else it would draw from the global random state
    )
    return list(_watched(iter(loader), len(items), description) if progress else loader)


class _Calls(Dataset[Result], Generic[Item, Result]):
    def __init__(self, function: Callable[[Item], Result], items: Sequence[Item]) -> None:
        self._function = function
        self._items = items

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, index: int) -> Result:
        return self._function(self._items[index])


def _watched(results: Iterator[Result], total: int, description: str) -> Iterator[Result]:
    from rich.console import Console
    from rich.progress import track

    yield from track(results, description, total=total, console=Console(stderr=True))


def _identity(value: Result) -> Result:
    return value
