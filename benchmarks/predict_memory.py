"""Do `attnseg predict` and `attnseg evaluate` take more memory for more images?

    python benchmarks/predict_memory.py                  # 100 and 1,000 images
    python benchmarks/predict_memory.py --counts 100 1000 10000 --commands evaluate predict
    python benchmarks/predict_memory.py --counts 100 10000 --size 64

Each count is a process of its own, on a tiny untrained model (what is measured is everything
around it). predict: synthetic radiographs of 256 x 256 px (--size) as PNG, all outputs on.
evaluate: synthetic cases of 64 x 64 px with masks, the decoded cache empty; then once more, with
the cache full. Prints images a second, CPU seconds, and the ratio of the peaks side by side; flat
means a ratio near 1.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

from step_cost import machine  # noqa: E402

DISTINCT = 20  # pictures that differ; the rest are links to them
TINY = (
    "data.size=64",
    "model.encoder.channels=[8,8,8,8,8]",
    "model.decoder_channels=8",
    "attention.hidden_channels=8",
)


@dataclass(frozen=True)
class Measured:
    name: str
    count: int
    seconds: float
    cpu_seconds: float
    peak_mib: float


def write_checkpoint(path: Path) -> Path:
    from attnseg.config import TrainConfig
    from attnseg.config.compose import compose_checked
    from attnseg.runs.checkpoints import LoadedCheckpoint, export_safetensors
    from attnseg.training.module import AttnSegModule

    config = compose_checked("train", TINY, TrainConfig)
    weights = AttnSegModule(config).model.state_dict()
    checkpoint = LoadedCheckpoint(path, config, weights, 0.5, "benchmark", {}, None)
    export_safetensors([checkpoint], path)
    return path


def write_images(folder: Path, count: int, size: int) -> None:
    from attnseg.imaging.images import write_image

    rng = np.random.default_rng(0)
    folder.mkdir()
    rows, columns = np.mgrid[0:size, 0:size] / size
    for index in range(min(DISTINCT, count)):
        smooth = np.sin(3 * rows + index) + np.cos(5 * columns)
        picture = (smooth + 2) / 4 * 50_000 + rng.normal(0, 500, (size, size))
        write_image(folder / f"{index:05d}.png", picture.clip(0, 65535).astype(np.uint16))
    for index in range(DISTINCT, count):
        os.link(folder / f"{index % DISTINCT:05d}.png", folder / f"{index:05d}.png")


def predict(checkpoint: Path, work: Path, count: int, size: int) -> list[Measured]:
    """`attnseg predict`, as a user would run it."""
    write_images(work / f"images-{count}", count, size)
    words = [f"images={work / f'images-{count}'}", f"out={work / f'out-{count}'}"]
    return [run("predict", [*words, f"checkpoint={checkpoint}"], "predict", count)]


def evaluate(checkpoint: Path, work: Path, count: int, size: int) -> list[Measured]:
    """`attnseg evaluate`, first with an empty cache, then with a full one."""
    from synthetic_set import write_manifest

    root = write_manifest(work / f"set-{count}", count, 64)
    words = [f"checkpoint={checkpoint}", "data=manifest", f"data.root={root}", "split=all"]
    words += [f"output_dir={work / f'evaluated-{count}'}", f"data.cache_dir={work / 'cache'}"]
    names = ("evaluate, decoding", "evaluate")
    return [run("evaluate", words, name, count) for name in names]


def run(command: str, words: list[str], name: str, count: int) -> Measured:
    started = time.perf_counter()
    child = subprocess.Popen(
        [sys.executable, "-m", "attnseg", command, *words, "accelerator=cpu"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    _, status, usage = os.wait4(child.pid, 0)
    seconds = time.perf_counter() - started
    assert os.waitstatus_to_exitcode(status) == 0, f"{command} failed"
    assert isinstance(usage, resource.struct_rusage)
    cpu = usage.ru_utime + usage.ru_stime
    return Measured(name, count, seconds, cpu, usage.ru_maxrss / 1024)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--counts", type=int, nargs="+", default=[100, 1000])
    parser.add_argument("--commands", choices=COMMANDS, nargs="+", default=["predict"])
    parser.add_argument("--size", type=int, default=256, help="pixels of predict's images")
    args = parser.parse_args()
    runs: list[Measured] = []
    with tempfile.TemporaryDirectory(prefix="predict-memory-") as folder:
        work = Path(folder)
        checkpoint = write_checkpoint(work / "tiny.safetensors")
        for command in args.commands:
            for count in args.counts:
                runs += COMMANDS[command](checkpoint, work, count, args.size)
    print(f"{machine()}; load {os.getloadavg()[0]:.1f}\n")
    head = ("images", "seconds", "images/s", "CPU s", "peak MiB", "ratio")
    print(f"{'':20}" + "".join(f"{word:>10}" for word in head))
    first: dict[str, float] = {}
    for one in runs:
        ratio = one.peak_mib / first.setdefault(one.name, one.peak_mib)
        print(
            f"{one.name:20}{one.count:10,}{one.seconds:10.1f}{one.count / one.seconds:10.1f}"
            f"{one.cpu_seconds:10.1f}{one.peak_mib:10.0f}{ratio:10.3f}"
        )


COMMANDS = {"predict": predict, "evaluate": evaluate}

if __name__ == "__main__":
    main()
