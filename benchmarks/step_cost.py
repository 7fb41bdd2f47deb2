"""What a training step costs: the default model beside the original, measured in one run.

    python benchmarks/step_cost.py [--size 512] [--batch 2] [--repeats 11] [--json out.json]

Time: one step is forward, backward and AdamW. All models sit in one process and take turns, so
that a busy machine slows them alike; the median of the turns counts. The lifted attention takes
minutes a step, so its time is that of its one step for the memory figure, alone in a process;
after --limit seconds the step is cut off, and both of its figures are lower bounds.

Memory: each model runs one step in a process of its own; what counts is the process's largest
resident size (getrusage) less that right before the step, with network and images in place. So
it holds activations, gradients, optimizer state and the convolutions' scratch space. The lifted
attention needs about 16 GiB; --skip-lifted leaves it out.

Takes about ten minutes on two cores.
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor, nn
from torch.nn import functional as F

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

from turns import cpu_name  # noqa: E402

from attnseg.build import build, build_model  # noqa: E402
from attnseg.config import component  # noqa: E402
from attnseg.nn.original import OriginalAnatomicalAttention  # noqa: E402

MIB = 2**20
RESNET50_CHANNELS = (64, 256, 512, 1024, 2048)


def option(group: str, name: str) -> dict[str, Any]:
    """An option file of conf/."""
    content: dict[str, Any] = yaml.safe_load((ROOT / "conf" / group / f"{name}.yaml").read_text())
    return content


def model(name: str, attention: str, **changes: Any) -> nn.Module:
    config = component("model", {**option("model", name), **changes})
    return build_model(config, component("attention", option("attention", attention)))


class ProjectedFirst(nn.Module):
    """The anatomical attention of today on ResNet-50 features, with its DRR encoder."""

    def __init__(self) -> None:
        super().__init__()
        self.drr_encoder = build(component("encoder", option("model", "resnet50")["drr_encoder"]))
        self.attention = build(
            component("attention", option("attention", "anatomical")),
            drr_channels=self.drr_encoder.channels,
            xray_channels=RESNET50_CHANNELS,
        )

    def forward(self, drr: Tensor, features: list[Tensor]) -> tuple[Tensor, Tensor]:
        return self.attention(drr, self.drr_encoder(drr), features)


class LiftedFirst(nn.Module):
    """The original's anatomical attention on the same features, of which it takes the deepest."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = OriginalAnatomicalAttention()

    def forward(self, drr: Tensor, features: list[Tensor]) -> tuple[Tensor, Tensor]:
        return self.attention(drr, features[-1])


MODELS: dict[str, Callable[[], nn.Module]] = {
    "default (anatomical)": lambda: model("dual_pathway", "anatomical"),
    "default, no attention": lambda: model("dual_pathway", "none"),
    "original (drr)": lambda: model("original", "drr"),
    "original (drr), early stages frozen": lambda: model("original", "drr", freeze_early=True),
}
ATTENTION: dict[str, Callable[[], nn.Module]] = {
    "attention, projected first": ProjectedFirst,
    "attention, lifted first": LiftedFirst,
}


def make_step(name: str, size: int, batch: int) -> tuple[nn.Module, Callable[[], None]]:
    """The network and a function that trains it by one step."""
    torch.manual_seed(0)
    network = {**MODELS, **ATTENTION}[name]().train()
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained)
    xray, drr = torch.randn(2, batch, 1, size, size)
    mask = torch.zeros(batch, 1, size, size)
    mask[..., size // 2 : size // 2 + 19, size // 3 : size // 3 + 19] = 1.0
    features: list[Tensor] = []
    if name in ATTENTION:
        features = [
            torch.randn(batch, channels, size >> level, size >> level).requires_grad_()
            for level, channels in enumerate(RESNET50_CHANNELS, start=1)
        ]

    def step() -> None:
        optimizer.zero_grad()
        if name in ATTENTION:
            logits, attention = network(drr, features)
            loss = F.binary_cross_entropy_with_logits(logits, mask) + attention.mean()
        else:
            output = network(xray, drr)
            loss = F.binary_cross_entropy_with_logits(output.mask_logits, mask)
            loss = loss + F.binary_cross_entropy_with_logits(output.attention_logits, mask)
        loss.backward()
        optimizer.step()
        for feature in features:
            feature.grad = None

    return network, step


def timed(step: Callable[[], None]) -> float:
    start = time.perf_counter()
    step()
    return time.perf_counter() - start


def measure_time(names: list[str], args: argparse.Namespace) -> dict[str, list[float]]:
    """Seconds a step, turn by turn."""
    seconds: dict[str, list[float]] = {name: [] for name in names}
    steps = {}
    for name in names:
        if "lifted" not in name:
            steps[name] = make_step(name, args.size, args.batch)[1]
            steps[name]()  # the first step plans convolutions and allocates
    for turn in range(args.repeats):
        for name, step in steps.items():
            seconds[name].append(timed(step))
        print(f"turn {turn + 1} of {args.repeats}", file=sys.stderr, flush=True)
    return seconds


def peak_memory() -> float:
    """The largest resident size of this process so far, in MiB (Linux counts in KiB)."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / MIB


def measure_memory(name: str, args: argparse.Namespace) -> dict[str, float]:
    """MiB that one step needs on top of network and images, in a process of its own."""
    flags = ["--size", args.size, "--batch", args.batch, "--threads", args.threads]
    command = [sys.executable, __file__, "--memory-of", name, *map(str, flags)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            output, errors = process.communicate(timeout=args.limit)
        except subprocess.TimeoutExpired as expired:
            peak = peak_memory_of(process.pid)
            process.kill()
            start = json.loads((expired.stdout or b"").decode().splitlines()[0])
            print(f"{name}: its step was cut off; at least so much", file=sys.stderr)
            return start | {"mib": peak - start["before"], "first_step": float(args.limit)}
    if process.returncode != 0:
        print(f"{name}: no memory figure\n{errors[-2000:]}", file=sys.stderr)
        return dict.fromkeys(("mib", "parameters", "first_step"), float("nan"))
    result: dict[str, float] = json.loads(output.splitlines()[-1])
    return result


def peak_memory_of(pid: int) -> float:
    """The largest resident size of another process so far, in MiB (Linux)."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024 / MIB


def memory_of(name: str, args: argparse.Namespace) -> dict[str, float]:
    network, step = make_step(name, args.size, args.batch)
    count = sum(parameter.numel() for parameter in network.parameters())
    start = {"before": peak_memory(), "parameters": count}
    print(json.dumps(start), flush=True)  # should the step be cut off
    seconds = timed(step)
    return start | {"mib": peak_memory() - start["before"], "first_step": seconds}


def machine() -> dict[str, Any]:
    return {
        "cpu": cpu_name(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "system": platform.platform(),
    }


def table(rows: dict[str, dict[str, Any]], reference: str) -> str:
    """Figures and their ratios to the reference row."""
    head = f"{'':38}{'params':>9}{'step':>10}{'min-max':>16}{'x':>8}{'memory':>12}{'x':>8}"
    lines = [head]
    base = rows[reference]
    for name, row in rows.items():
        spread = f"{row['seconds_min']:.2f}-{row['seconds_max']:.2f}"
        lines.append(
            f"{name:38}{row['parameters'] / 1e6:8.2f}M{row['seconds']:9.2f}s{spread:>16}"
            f"{row['seconds'] / base['seconds']:8.1f}{row['mib']:8.0f} MiB"
            f"{row['mib'] / base['mib']:8.1f}"
        )
    return "\n".join(lines)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=11)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--limit", type=int, default=240, help="seconds for one memory figure")
    parser.add_argument("--skip-lifted", action="store_true", help="leave out what needs 16 GiB")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    parser.add_argument("--memory-of", help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    args = parse()
    torch.set_num_threads(args.threads)
    if args.memory_of:
        print(json.dumps(memory_of(args.memory_of, args)))
        return
    names = [n for n in [*MODELS, *ATTENTION] if not (args.skip_lifted and "lifted" in n)]
    memory = {name: measure_memory(name, args) for name in names}
    seconds = measure_time(names, args)
    for name in names:
        seconds[name] = seconds[name] or [memory[name]["first_step"]]
    rows = {
        name: {
            **memory[name],
            "seconds": statistics.median(seconds[name]),
            "seconds_min": min(seconds[name]),
            "seconds_max": max(seconds[name]),
            "turns": len(seconds[name]),
        }
        for name in names
    }
    print(f"size {args.size}, batch {args.batch}; {machine()}\n")
    print(table({k: v for k, v in rows.items() if k in MODELS}, next(iter(MODELS))))
    print()
    print(table({k: v for k, v in rows.items() if k in ATTENTION}, next(iter(ATTENTION))))
    if args.json:
        report = {"machine": machine(), "size": args.size, "batch": args.batch, "rows": rows}
        args.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
