"""Does `attnseg predict` take more memory for more images? Images a second, and peak memory.

    python benchmarks/predict_memory.py                  # 100 and 1,000 images
    python benchmarks/predict_memory.py --counts 100 10000

Each count is a process of its own, on a tiny untrained model (what is measured is everything
around it): synthetic radiographs of 256 x 256 px as PNG, all outputs on. Prints the ratio of the
peaks side by side; flat means a ratio near 1.
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

SIZE = 256
DISTINCT = 20  # pictures that differ; the rest are links to them
TINY = (
    "data.size=64",
    "model.encoder.channels=[8,8,8,8,8]",
    "model.decoder_channels=8",
    "attention.hidden_channels=8",
)


@dataclass(frozen=True)
class Measured:
    count: int
    seconds: float
    peak_mib: float


def write_checkpoint(path: Path) -> Path:
    from attnseg.commands.compose import compose_checked
    from attnseg.config import TrainConfig
    from attnseg.module import AttnSegModule
    from attnseg.runs.checkpoints import LoadedCheckpoint, export_safetensors

    config = compose_checked("train", TINY, TrainConfig)
    weights = AttnSegModule(config).model.state_dict()
    export_safetensors(LoadedCheckpoint(path, config, weights, 0.5, "benchmark", {}, None), path)
    return path


def write_images(folder: Path, count: int) -> None:
    from attnseg.data.images import write_image

    rng = np.random.default_rng(0)
    folder.mkdir()
    rows, columns = np.mgrid[0:SIZE, 0:SIZE] / SIZE
    for index in range(min(DISTINCT, count)):
        smooth = np.sin(3 * rows + index) + np.cos(5 * columns)
        picture = (smooth + 2) / 4 * 50_000 + rng.normal(0, 500, (SIZE, SIZE))
        write_image(folder / f"{index:05d}.png", picture.clip(0, 65535).astype(np.uint16))
    for index in range(DISTINCT, count):
        os.link(folder / f"{index % DISTINCT:05d}.png", folder / f"{index:05d}.png")


def measure(checkpoint: Path, work: Path, count: int) -> Measured:
    """Run the command as a user would, in a process of its own."""
    write_images(work / f"images-{count}", count)
    words = [f"checkpoint={checkpoint}", f"images={work / f'images-{count}'}"]
    words += [f"out={work / f'out-{count}'}", "accelerator=cpu"]
    started = time.perf_counter()
    child = subprocess.Popen(
        [sys.executable, "-m", "attnseg", "predict", *words],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    _, status, usage = os.wait4(child.pid, 0)
    seconds = time.perf_counter() - started
    assert os.waitstatus_to_exitcode(status) == 0, "predict failed"
    assert isinstance(usage, resource.struct_rusage)
    return Measured(count, seconds, usage.ru_maxrss / 1024)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--counts", type=int, nargs="+", default=[100, 1000])
    counts = parser.parse_args().counts
    with tempfile.TemporaryDirectory(prefix="predict-memory-") as folder:
        work = Path(folder)
        checkpoint = write_checkpoint(work / "tiny.safetensors")
        runs = [measure(checkpoint, work, count) for count in counts]
    print(f"{'images':>8} {'seconds':>9} {'images/s':>9} {'peak MiB':>9} {'ratio':>6}")
    for run in runs:
        rate, ratio = run.count / run.seconds, run.peak_mib / runs[0].peak_mib
        print(f"{run.count:8d} {run.seconds:9.1f} {rate:9.1f} {run.peak_mib:9.0f} {ratio:6.3f}")


if __name__ == "__main__":
    main()
