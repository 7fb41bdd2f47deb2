"""How much of a second process arrives: `attnseg train` on 1 and on 2 processes of one thread.

    python benchmarks/ddp_efficiency.py

The same global batch and the same number of steps. Each turn trains twice, short and long; the
difference is the time of the steps alone, without start, decoding and the last validation. The
efficiency is the time on one process over twice the time on two: 1 is ideal, 0.5 no gain at all.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

from turns import machine_line  # noqa: E402

SHORT, LONG = 2, 6  # epochs


def seconds(processes: int, epochs: int, args: argparse.Namespace) -> float:
    """Wall time of one training in a new folder."""
    with tempfile.TemporaryDirectory() as folder:
        words = [
            f"data.size={args.size}",
            f"data.n_cases={args.cases}",
            f"data.batch_size={args.batch}",
            f"schedule.total_epochs={epochs}",
            f"trainer={'ddp_cpu' if processes > 1 else 'cpu'}",
            f"trainer.devices={processes}",
            "trainer.accelerator=cpu",
            "trainer.num_threads=1",
            "trainer.check_val_every_n_epoch=100",
            "trainer.progress_bar=false",
            "callbacks.overlays.every_n_epochs=0",
            f"run.dir={folder}/run",
            f"data.cache_dir={args.cache}",
        ]
        command = [sys.executable, "-m", "attnseg", "train", *words]
        start = time.perf_counter()
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(done.stderr[-2000:])
        return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--batch", type=int, default=8, help="of all processes together")
    parser.add_argument("--cases", type=int, default=80)
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as args.cache:
        seconds(1, SHORT, args)  # fills the cache
        efficiencies = []
        for turn in range(args.repeats):
            one, two = (seconds(n, LONG, args) - seconds(n, SHORT, args) for n in (1, 2))
            efficiencies.append(one / (2 * two))
            print(f"turn {turn + 1}: 1 process {one:.1f} s, 2 processes {two:.1f} s", flush=True)
    print(f"{args.size} px, global batch {args.batch}, {LONG - SHORT} epochs; {machine_line()}")
    low, high = min(efficiencies), max(efficiencies)
    print(f"efficiency {statistics.median(efficiencies):.2f} ({low:.2f} to {high:.2f})")


if __name__ == "__main__":
    main()
