"""Do the options that make a step cheaper keep the accuracy? Dice by option, beside seed noise.

    python benchmarks/option_accuracy.py                 # 3 seeds: about 12 minutes on one core
    python benchmarks/option_accuracy.py --seeds 1 --options plain bf16

Every option trains the same small configuration on the embedded phantom, seed by seed, through
`attnseg train`'s own code. What counts: whether an option's mean Dice differs from the plain
one's by more than the plain one's spread over seeds. channels_last and fused change the order of
sums alone; bf16 rounds.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import statistics
import sys
import tempfile
import time
import warnings
from pathlib import Path

import torch

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

from step_options import OPTIONS  # noqa: E402
from turns import machine_line  # noqa: E402

from attnseg.config import TrainConfig  # noqa: E402
from attnseg.config.compose import compose_checked  # noqa: E402
from attnseg.training.fit import fit  # noqa: E402

STUDY = (
    "experiment=demo",
    "data.size=128",
    "data.n_cases=120",
    "callbacks.overlays.every_n_epochs=0",
    "trainer.num_threads=1",
    "trainer.progress_bar=false",
    "resume=none",
)


def dice_of(option: str, seed: int, epochs: int) -> tuple[float, float]:
    """Best validation Dice of a run, and its CPU seconds."""
    with tempfile.TemporaryDirectory(prefix="attnseg-option-") as folder:
        words = [*STUDY, f"seed={seed}", f"schedule.total_epochs={epochs}", f"run.dir={folder}/run"]
        config = compose_checked("train", [*words, *OPTIONS[option]], TrainConfig)
        began = time.process_time()
        with contextlib.redirect_stdout(io.StringIO()):
            assert fit(config) == 0, f"{option}, seed {seed}: the training failed"
        best = json.loads((Path(folder) / "run" / "status.json").read_text())["best"]["value"]
    return float(best), time.process_time() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--options", nargs="+", choices=sorted(OPTIONS), default=list(OPTIONS))
    args = parser.parse_args()
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    print(machine_line())
    found: dict[str, list[float]] = {name: [] for name in args.options}
    for seed in args.seeds:
        for name in args.options:
            dice, seconds = dice_of(name, seed, args.epochs)
            found[name].append(dice)
            print(f"seed {seed}, {name}: Dice {dice:.4f}, {seconds:.0f} CPU s", file=sys.stderr)
    print(f"\n| | Dice by seed ({args.epochs} epochs) | mean | less plain |\n|---|---|---|---|")
    plain = statistics.mean(found[args.options[0]])
    for name, values in found.items():
        mean = statistics.mean(values)
        each = " ".join(f"{value:.4f}" for value in values)
        print(f"| {name} | {each} | {mean:.4f} | {mean - plain:+.4f} |")
    if len(args.seeds) > 1:
        spread = statistics.stdev(found[args.options[0]])
        print(f"\nseed noise (standard deviation over seeds of {args.options[0]}): {spread:.4f}")


if __name__ == "__main__":
    main()
