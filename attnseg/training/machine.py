"""What a run computes on: processes, threads, processor. They decide the last digits."""

from __future__ import annotations

import platform
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch

from attnseg.common.errors import ConfigError
from attnseg.config import TrainConfig


def machine_of(trainer: pl.Trainer) -> dict[str, Any]:
    """Processes, CPU threads of each, and the processor, in plain types."""
    device = trainer.strategy.root_device
    gpu = {"gpu": torch.cuda.get_device_name(device)} if device.type == "cuda" else {}
    return {
        "processes": trainer.world_size,
        "threads": torch.get_num_threads(),
        "cpu": {"model": _model_name(), "capability": torch.backends.cpu.get_cpu_capability()},
        **gpu,
    }


def other_processor(then: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """`old -> new` where a run goes on on another processor; else, or not known, empty."""
    if "cpu" not in then:
        return ""
    old, new = (record.get("gpu") or " ".join(record["cpu"].values()) for record in (then, now))
    return f"{old} -> {new}" if old != new else ""


@contextmanager
def own_threads() -> Iterator[None]:
    """Give back the number of threads: the process may train another run after this one."""
    before = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(before)


def use_threads(config: TrainConfig, then: Mapping[str, Any]) -> str:
    """Compute with as many CPU threads as the run began with, else as the configuration says.

    Args:
        config: `trainer.num_threads`, or a launcher's share; torch's own choice where neither is.
        then: what the checkpoint that is gone on from records; empty where a run begins.

    Returns:
        A note where the number is another than this process would have taken.

    Raises:
        ConfigError: `trainer.num_threads` asks for another number than the run began with.
    """
    asked, began = config.trainer.num_threads, then.get("threads")
    if asked and began and asked != began:
        raise ConfigError(
            f"trainer.num_threads={asked}: this run was begun with {began}, and another number "
            f"adds floats in another order; leave it out to go on with {began}, or make it a run "
            "of its own: fork="
        )
    usual = asked or config.launcher.threads or torch.get_num_threads()
    count = began or usual
    torch.set_num_threads(count)
    if count == usual:
        return ""
    return f"CPU threads: {count}, as the run began with; here it would be {usual}"


def _model_name() -> str:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
