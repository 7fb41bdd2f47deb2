"""What the framework adds to a training step: `attnseg train`'s loop beside a bare PyTorch loop.

    python benchmarks/framework_overhead.py                    # default model, 256 and 512 px
    python benchmarks/framework_overhead.py --model original --repeats 9
    python benchmarks/framework_overhead.py --device cuda         # trainer=gpu, and its precision

Both loops train the same network on the same batch with the same loss, gradient clipping and
AdamW. The framework's is a whole run: Lightning, every default callback, metrics of every batch,
ledger, a TensorBoard logger, EMA off. Its data loader takes the bare loop's turn each time it is
asked for a batch, so that the turns alternate inside one process; what passes between handing
over a batch and being asked for the next one is the framework's step, everything included.

Reading data is not in it; validation and the end of an epoch are not either.
"""

from __future__ import annotations

import argparse
import logging
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

from turns import Times, finish, machine_line, table  # noqa: E402

from attnseg.config import TrainConfig  # noqa: E402
from attnseg.config.compose import compose_checked  # noqa: E402
from attnseg.runs.folder import RunFolder  # noqa: E402
from attnseg.training.callbacks.interruption import StopRequest  # noqa: E402
from attnseg.training.module import AttnSegModule  # noqa: E402
from attnseg.training.record import MadeOf  # noqa: E402
from attnseg.training.trainer import build_trainer  # noqa: E402

WARM_UP = 2
TRAINERS = {"cpu": "cpu", "cuda": "gpu"}
MODELS = {
    "default": ("model=dual_pathway", "attention=anatomical"),
    "original": ("model=original", "attention=drr"),
}

ONE_RATE = (
    "optim.lr_schedule.kind=constant",
    "optim.lr_schedule.warmup_epochs=0",
    *(f"optim.lr_factors.{group}=1.0" for group in ("attention", "head", "backbone")),
)
"""Both networks must learn alike: what a step costs depends on its numbers, too (denormals)."""


def a_batch(size: int, count: int, device: str = "cpu") -> dict[str, Any]:
    """One batch as the data module makes them, with a nodule of 19 px at 512 px in each case."""
    generator = torch.Generator().manual_seed(0)
    xray, drr = torch.randn(2, count, 1, size, size, generator=generator)
    mask = torch.zeros(count, 1, size, size)
    side = max(2, 19 * size // 512)
    mask[..., size // 2 : size // 2 + side, size // 3 : size // 3 + side] = 1.0
    names = [f"case-{number}" for number in range(count)]
    tensors = {
        "xray": xray,
        "drr": drr,
        "mask": mask,
        "spacing": torch.full((count, 2), 0.7),
        "index": torch.arange(count),
    }
    on_device = {name: tensor.to(device) for name, tensor in tensors.items()}
    return {**on_device, "case_id": names, "patient_id": names}


def bare_step(config: TrainConfig, batch: dict[str, Any], device: str) -> Callable[[], None]:
    """The same step, by hand."""
    module = AttnSegModule(config).to(device)
    network, loss = module.model.train(), module.loss
    weights = module.base_weights()
    optimizer = module.configure_optimizers()
    half = config.trainer.precision == "bf16-mixed"
    if config.trainer.channels_last:
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def step() -> None:
        with torch.autocast(device, torch.bfloat16, enabled=half):
            output = network(batch["xray"], batch["drr"])
            total = loss(output, batch["mask"], weights)["total"]
        # Where Lightning does it, so that either loop finds the other's gradients in memory: of the
        # original they are 118 MB, and where they lie changes a step by four percent.
        optimizer.zero_grad()
        total.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), config.optim.gradient_clip_norm or 0)
        optimizer.step()
        finish(device)

    return step


class Alternating:
    """Takes the bare turn whenever a batch is asked for, and times what comes between."""

    def __init__(
        self, batch: dict[str, Any], bare: Callable[[], None], repeats: int, device: str
    ) -> None:
        self.batch, self.turn, self.repeats, self.device = batch, bare, repeats, device
        self.bare, self.framework = Times(), Times()

    def __len__(self) -> int:
        return WARM_UP + self.repeats + 1  # Lightning never asks again after the last

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for number in range(len(self)):
            counts = WARM_UP <= number < WARM_UP + self.repeats
            (self.bare if counts else Times()).time(self.turn)
            wall, cpu = time.perf_counter(), time.process_time()
            yield self.batch
            finish(self.device)
            spent = time.perf_counter() - wall, time.process_time() - cpu
            if counts:
                self.framework.add(*spent)


def measure(words: tuple[str, ...], size: int, args: argparse.Namespace) -> dict[str, Times]:
    with tempfile.TemporaryDirectory(prefix="attnseg-overhead-") as name:
        config = compose_checked(
            "train",
            [*words, f"run.dir={name}", f"data.size={size}", f"trainer={TRAINERS[args.device]}",
             "logger=tensorboard", "trainer.limit_val_batches=0", "schedule.total_epochs=3",
             "trainer.max_epochs=1", "callbacks.overlays.every_n_epochs=0", *ONE_RATE,
             *args.overrides],
            TrainConfig,
        )  # fmt: skip
        batch = a_batch(size, args.batch, args.device)
        bare = bare_step(config, batch, args.device)
        loader = Alternating(batch, bare, args.repeats, args.device)
        trainer = build_trainer(config, RunFolder(Path(name)), StopRequest())
        trainer.callbacks = [c for c in trainer.callbacks if type(c).__name__ not in args.without]  # type: ignore[attr-defined]
        module = AttnSegModule(config)
        module.made = MadeOf()  # of no data: the batch is the same all along
        trainer.fit(module, train_dataloaders=loader)
    return {"bare loop": loader.bare, "attnseg train": loader.framework}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", choices=sorted(MODELS), nargs="+", default=["default"])
    parser.add_argument("--sizes", type=int, nargs="+", default=[256, 512])
    parser.add_argument("--batch", type=int, default=4, help="data.batch_size is 4 by default")
    parser.add_argument("--repeats", type=int, default=31)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", choices=sorted(TRAINERS), default="cpu")
    parser.add_argument("--without", nargs="*", default=[], help="callbacks to leave out, by class")
    parser.add_argument("overrides", nargs="*", help="key=value of attnseg train")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    warnings.filterwarnings("ignore")
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    print(f"batch {args.batch}; {machine_line(args.device)}")
    for model in args.model:
        for size in args.sizes:
            times = measure(MODELS[model], size, args)
            pairs = zip(times["attnseg train"].wall, times["bare loop"].wall, strict=True)
            added = statistics.median(a - b for a, b in pairs)
            print(f"\n{model}, {size} px: {1e3 * added:.1f} ms a step added (wall, median)\n")
            print(table(times, "bare loop"), flush=True)


if __name__ == "__main__":
    main()
