"""What the metrics cost over 1,000 cases at 512 px: share of a validation pass, and memory.

    python benchmarks/metrics_cost.py               # 1,000 cases: about three minutes
    python benchmarks/metrics_cost.py --cases 100

A validation pass is the default model's forward pass and loss, and the metrics; reading images is
not in it, which would only lower the share. Each batch is handed to every part in turn, so that a
busy machine slows all alike. Maps are smooth blobs that change from case to case, as a trained
network's are; a third of the cases is negative. Memory: the process's largest resident size after
a tenth of the cases and at the end, and the bytes that each metric's state holds.
"""

from __future__ import annotations

import argparse
import resource
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

from turns import Times, machine_line  # noqa: E402

from attnseg.config import TrainConfig  # noqa: E402
from attnseg.config.compose import compose_checked  # noqa: E402
from attnseg.metrics.collection import ValidationMetrics  # noqa: E402
from attnseg.training.module import AttnSegModule  # noqa: E402


def some_maps(first: int, count: int, size: int) -> dict[str, Any]:
    """Attention, probability and mask of a batch, as `ValidationMetrics.update` takes them."""
    generator = torch.Generator().manual_seed(first)

    def smooth(cells: int) -> Tensor:
        noise = torch.randn(count, 1, cells, cells, generator=generator)
        return F.interpolate(noise, size=size, mode="bilinear", align_corners=False)

    mask = torch.zeros(count, 1, size, size)
    side = max(2, 19 * size // 512)
    for number in range(count):
        if (first + number) % 3:
            row, column = torch.randint(size - side, (2,), generator=generator).tolist()
            mask[number, 0, row : row + side, column : column + side] = 1.0
    near = F.interpolate(F.max_pool2d(mask, 8), size=size, mode="bilinear", align_corners=False)
    return {
        "attention": (smooth(16) + 4 * near - 3).sigmoid(),
        "probability": (3 * smooth(32) + 8 * near - 8).sigmoid(),
        "mask": mask,
        "spacing": torch.full((count, 2), 0.7),
        "case_ids": [f"case-{first + number:05d}" for number in range(count)],
    }


def state_bytes(metrics: ValidationMetrics) -> dict[str, int]:
    """Bytes of every metric's states."""
    sizes = {}
    for name, metric in metrics.items(copy_state=False):
        states = [getattr(metric, key) for key in metric._defaults]
        tensors = [t for state in states for t in (state if isinstance(state, list) else [state])]
        sizes[str(name)] = sum(tensor.nbytes for tensor in tensors)
    return sizes


def peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--cases", type=int, default=1000)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    warnings.filterwarnings("ignore")
    module = AttnSegModule(compose_checked("train", [], TrainConfig)).eval()
    weights = module.base_weights()
    metrics = ValidationMetrics()
    parts = dict(metrics.items(copy_state=False))
    times = {name: Times() for name in ("forward and loss", *map(str, parts))}
    early = 0.0

    def forward(mask: Tensor, images: Tensor) -> None:
        output = module(images, images)
        module.loss(output, mask, weights)

    with torch.inference_mode():
        for first in range(0, args.cases, args.batch):
            maps = some_maps(first, args.batch, args.size)
            images = torch.randn(args.batch, 1, args.size, args.size)
            jobs: dict[str, Callable[[], Any]] = {
                "forward and loss": lambda m=maps, i=images: forward(m["mask"], i),
                **{
                    str(name): lambda p=part, m=maps: p.update(**p._filter_kwargs(**m))
                    for name, part in parts.items()
                },
            }
            for name, job in jobs.items():
                (times[name] if first else Times()).time(job)
            if first + args.batch >= args.cases / 10 and not early:
                early = peak_mib()
    print(f"{args.cases} cases, {args.size} px, batch {args.batch}; {machine_line()}\n")
    total = sum(sum(of.cpu) for of in times.values())
    wall = sum(sum(of.wall) for of in times.values())
    print(
        "| | ms a case, CPU | share of the pass, CPU | share, wall | state |\n|---|---|---|---|---|"
    )
    sizes = state_bytes(metrics)
    for name, of in times.items():
        cost = 1e3 * sum(of.cpu) / len(of.cpu) / args.batch
        size = f"{sizes[name] / 1024:.1f} KiB" if name in sizes else ""
        shares = f"{sum(of.cpu) / total:.1%} | {sum(of.wall) / wall:.1%}"
        print(f"| {name} | {cost:.2f} | {shares} | {size} |")
    print(f"\npeak memory after a tenth: {early:.0f} MiB, at the end: {peak_mib():.0f} MiB")


if __name__ == "__main__":
    main()
