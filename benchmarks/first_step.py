"""How long a new `attnseg train experiment=demo` takes until its first step is done.

    python benchmarks/first_step.py    # 3 turns; the cases are decoded before, by the first one

Seconds from the start of the process, by the clock and of processor time: until the first training
step begins (imports, configuration, data, model), and until it is done (loss, gradients, AdamW).
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

from turns import machine_line  # noqa: E402

CHILD = """
import json, os, sys, time
from attnseg.cli import main
from attnseg.training.callbacks.interruption import Interruption
times = []
def begins(self, *_): times.extend((time.time(), time.process_time()))
def is_done(self, *_):
    times.extend((time.time(), time.process_time()))
    print(json.dumps(times), flush=True)
    os._exit(0)
Interruption.on_train_batch_start, Interruption.on_train_batch_end = begins, is_done
sys.exit(main(sys.argv[1:]))
"""


def turn(cache: str) -> list[float]:
    """Seconds until the step begins and is done: (wall, processor) of each."""
    with tempfile.TemporaryDirectory() as folder:
        words = ["experiment=demo", f"run.dir={folder}/run", f"data.cache_dir={cache}"]
        words += ["trainer.progress_bar=false", "logger=none"]
        start = time.time()
        child = subprocess.run(
            [sys.executable, "-c", CHILD, "train", *words],
            cwd=ROOT, capture_output=True, text=True, check=True,
        )  # fmt: skip
    wall, processor, wall_done, processor_done = json.loads(child.stdout.splitlines()[-1])
    return [wall - start, processor, wall_done - start, processor_done]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as cache:
        turn(cache)  # decodes the cases
        turns = [turn(cache) for _ in range(args.repeats)]
    print(f"{machine_line()}\n")
    for name, at in (("begins", 0), ("is done", 2)):
        wall, processor = (statistics.median(one[at + kind] for one in turns) for kind in (0, 1))
        print(f"the first step {name:8}{wall:7.1f} s, {processor:5.1f} s of the processor")
    print(f"medians of {args.repeats} turns; load {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
