"""What benchmarks share: turns taken side by side, and how they are shown.

Everything that is compared sits in one process and takes turns, so that a busy machine slows all
alike. Wall time is what a user waits for; CPU time is hardly touched by other processes.
"""

from __future__ import annotations

import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import torch


@dataclass
class Times:
    """Seconds of the turns of one contender."""

    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)

    def time(self, turn: Callable[[], object]) -> None:
        """Take one turn."""
        wall, cpu = time.perf_counter(), time.process_time()
        turn()
        self.add(time.perf_counter() - wall, time.process_time() - cpu)

    def add(self, wall: float, cpu: float) -> None:
        """Note a turn that was measured elsewhere."""
        self.wall.append(wall)
        self.cpu.append(cpu)

    def ratio(self, other: Times) -> tuple[float, float]:
        """Median over the turns of this one's time over the other's of the same turn: wall, CPU."""
        wall = statistics.median(a / b for a, b in zip(self.wall, other.wall, strict=True))
        cpu = statistics.median(a / b for a, b in zip(self.cpu, other.cpu, strict=True))
        return wall, cpu


def take_turns(
    contenders: Mapping[str, Callable[[], object]], repeats: int, warm_up: int = 2
) -> dict[str, Times]:
    """Let all take turns; the first ones, which plan and allocate, do not count."""
    for turn in contenders.values():
        for _ in range(warm_up):
            turn()
    times = {name: Times() for name in contenders}
    for number in range(repeats):
        for name, turn in contenders.items():
            times[name].time(turn)
        print(f"turn {number + 1} of {repeats}", file=sys.stderr, flush=True)
    return times


def table(
    times: Mapping[str, Times], reference: str, extra: Mapping[str, str] | None = None
) -> str:
    """Median and min-max in ms, and the ratio to the reference of the same turn."""
    lines = [
        "| | wall ms | min-max | wall, ratio | CPU ms | CPU, ratio |" + (" |" if extra else "")
    ]
    lines.append("|---" * (6 + bool(extra)) + "|")
    for name, of in times.items():
        wall, cpu = of.ratio(times[reference])
        cells = [
            name,
            f"{1e3 * statistics.median(of.wall):.1f}",
            f"{1e3 * min(of.wall):.1f}-{1e3 * max(of.wall):.1f}",
            f"{wall:.3f}",
            f"{1e3 * statistics.median(of.cpu):.1f}",
            f"{cpu:.3f}",
            *([extra.get(name, "")] if extra else []),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def cpu_name() -> str:
    """The processor's name, as far as the system tells it."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for row in info.read_text().splitlines():
            if row.startswith("model name"):
                return row.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def finish(device: str) -> None:
    """Wait for what a device still has to do; a CPU has done it."""
    if device == "cuda":
        torch.cuda.synchronize()


def device_name(device: str) -> str:
    """The device's name, as far as the system tells it."""
    return torch.cuda.get_device_name() if device == "cuda" else cpu_name()


def machine_line(device: str = "cpu") -> str:
    """Machine, software and date: without it a time says nothing."""
    load = "/".join(f"{value:.1f}" for value in os.getloadavg())
    return (
        f"{device_name(device)}, {os.cpu_count()} cores, "
        f"{torch.get_num_threads()} torch thread(s), load {load}; torch {torch.__version__}, "
        f"Python {platform.python_version()}, {datetime.now(UTC):%Y-%m-%d}"
    )
