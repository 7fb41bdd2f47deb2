"""What `trainer.reuse_memory` saves of a CPU step, and what it costs in memory.

    python benchmarks/memory_reuse.py                      # default model and EfficientNet-Lite0
    python benchmarks/memory_reuse.py --sizes 512 --batch 4 --repeats 3

The allocator's setting holds for a process, so every turn is one of its own: two steps to warm up,
then `--steps`, of which the median counts. The turns alternate.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

from step_options import make_step  # noqa: E402
from turns import machine_line  # noqa: E402

from attnseg.common.memory import reuse_freed_memory  # noqa: E402

WORDS = {
    "default": ("model=dual_pathway", "attention=anatomical"),
    "efficientnet_lite0": (
        "model=efficientnet_lite0",
        "model.encoder.weights=null",
        "trainer.channels_last=true",
    ),
}


def measure(model: str, size: int, batch: int, steps: int) -> dict[str, float]:
    """Of this process: seconds and page faults a step, and its largest memory."""
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    step, _ = make_step(WORDS[model], size, batch, "cpu")
    found: dict[str, list[float]] = {"wall": [], "cpu": [], "faults": []}
    for number in range(steps + 2):
        faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        wall, cpu = time.perf_counter(), time.process_time()
        step()
        if number >= 2:
            found["wall"].append(time.perf_counter() - wall)
            found["cpu"].append(time.process_time() - cpu)
            found["faults"].append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - faults)
    medians = {name: statistics.median(values) for name, values in found.items()}
    return medians | {"mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


def turn(reuse: bool, *given: Any) -> dict[str, float]:
    """`measure` in a new process."""
    words = [sys.executable, __file__, "--child", json.dumps([reuse, *given])]
    told = ("MALLOC_", "GLIBC_")  # would decide instead
    plain = {name: value for name, value in os.environ.items() if not name.startswith(told)}
    child = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, env=plain)
    if child.returncode:
        raise SystemExit(child.stderr)
    return dict(json.loads(child.stdout.splitlines()[-1]))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--models", nargs="+", choices=sorted(WORDS), default=sorted(WORDS))
    parser.add_argument("--sizes", type=int, nargs="+", default=[256, 512])
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        reuse, *given = json.loads(args.child)
        if reuse and not reuse_freed_memory():
            raise SystemExit("this C library cannot be told to keep freed memory")
        print(json.dumps(measure(*given)))
        return
    torch.set_num_threads(1)  # as in the turns: machine_line tells it
    print(f"batch {args.batch}; {machine_line()}\n")
    print("| | CPU ms | ratio | wall, ratio | page faults | ratio | MiB | ratio |")
    print("|---" * 8 + "|")
    for model in args.models:
        for size in args.sizes:
            given = (model, size, args.batch, args.steps)
            turns = [(turn(False, *given), turn(True, *given)) for _ in range(args.repeats)]
            plain = {name: statistics.median(one[name] for one, _ in turns) for name in turns[0][0]}
            ratio = {
                name: statistics.median(two[name] / max(one[name], 1e-9) for one, two in turns)
                for name in plain
            }
            cells = (
                f"{model}, {size} px",
                f"{1e3 * plain['cpu']:.0f}",
                f"{ratio['cpu']:.2f}",
                f"{ratio['wall']:.2f}",
                f"{plain['faults']:.0f}",
                f"{ratio['faults']:.2f}",
                f"{plain['mib']:.0f}",
                f"{ratio['mib']:.2f}",
            )
            print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
