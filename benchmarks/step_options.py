"""Which options make a training step cheaper: each alone and together, side by side in one run.

    python benchmarks/step_options.py                            # default model, 256 and 512 px
    python benchmarks/step_options.py --model original --repeats 5
    python benchmarks/step_options.py --device cuda --batch 8 --repeats 30

A step is forward, the default loss, backward, clipping and AdamW in a bare loop. Beside the plain
step: `trainer.channels_last`, `trainer.precision=bf16-mixed`, `optim.fused`, `trainer.compile`
(needs a C++ compiler; its first step, which compiles, is shown apart), all of them together, and
MONAI's AttentionUnet with as many parameters as the default model (plain, too). What each does to
the accuracy: option_accuracy.py.
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import torch

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

from framework_overhead import MODELS, ONE_RATE, a_batch  # noqa: E402
from turns import finish, machine_line, table, take_turns  # noqa: E402

from attnseg.config import TrainConfig  # noqa: E402
from attnseg.config.compose import compose_checked  # noqa: E402
from attnseg.nn.output import count_parameters  # noqa: E402
from attnseg.training.module import AttnSegModule  # noqa: E402

OPTIONS: dict[str, tuple[str, ...]] = {
    "plain": (),
    "channels_last": ("trainer.channels_last=true",),
    "bf16": ("trainer.precision=bf16-mixed",),
    "fused AdamW": ("optim.fused=true",),
    "compile": ("trainer.compile=true",),
    "channels_last + bf16": ("trainer.channels_last=true", "trainer.precision=bf16-mixed"),
    "all": ("trainer.channels_last=true", "trainer.precision=bf16-mixed", "optim.fused=true",
            "trainer.compile=true"),
}  # fmt: skip
PEER = (
    "model=attention_unet",
    "attention=none",
    "model.network.channels=[20,40,76,116,142]",
)
"""1.30 M parameters, as the default model has."""


def make_step(
    words: tuple[str, ...], size: int, batch: int, device: str
) -> tuple[Callable[[], None], float]:
    """The step of a configuration, in a bare loop; and the network's parameters in millions."""
    config = compose_checked("train", [*ONE_RATE, *words, f"data.size={size}"], TrainConfig)
    module = AttnSegModule(config).to(device)
    network = module.model.train()
    n_parameters = count_parameters(network.parameters()) / 1e6
    images = a_batch(size, batch, device)
    if config.trainer.channels_last:
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if config.trainer.compile:
        network.compile()
    optimizer = module.configure_optimizers()
    weights = module.base_weights()
    half = config.trainer.precision == "bf16-mixed"
    supervise = network.has_attention

    def step() -> None:
        optimizer.zero_grad()
        with torch.autocast(device, torch.bfloat16, enabled=half):
            output = network(images["xray"], images["drr"])
            terms = module.loss(output, images["mask"], weights, supervise_attention=supervise)
        terms["total"].backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        finish(device)

    return step, n_parameters


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", choices=sorted(MODELS), default="default")
    parser.add_argument("--sizes", type=int, nargs="+", default=[256, 512])
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--options", nargs="+", choices=sorted(OPTIONS), default=list(OPTIONS))
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    warnings.filterwarnings("ignore")
    print(f"{args.model}, batch {args.batch}; {machine_line(args.device)}")
    for size in args.sizes:
        contenders = {name: (*MODELS[args.model], *OPTIONS[name]) for name in args.options}
        if args.model == "default":
            contenders["MONAI AttentionUnet, plain"] = PEER
        steps, notes = {}, {}
        for name, words in contenders.items():
            steps[name], millions = make_step(words, size, args.batch, args.device)
            began = time.perf_counter()
            steps[name]()
            notes[name] = f"{millions:.2f} M; first step {time.perf_counter() - began:.1f} s"
        print(
            f"\n{size} px\n\n{table(take_turns(steps, args.repeats, warm_up=1), 'plain', notes)}",
            flush=True,
        )


if __name__ == "__main__":
    main()
