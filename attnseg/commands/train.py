"""`attnseg train`: compose, check, launch."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Any

from attnseg.commands.compose import compose_checked, relax
from attnseg.commands.help import command_help, show, wants_help
from attnseg.config import TrainConfig
from attnseg.errors import USER_MISTAKE, UserError
from attnseg.paths import conf_dir

GROUPS = (
    "data",
    "model",
    "attention",
    "loss",
    "schedule",
    "optim",
    "callbacks",
    "trainer",
    "logger",
    "experiment",
)
OVERRIDES = (
    ("experiment=demo", "a named study: its file says command, cost and expected result"),
    ("data=lidc_drr data.root=PATH", "train on real DRRs"),
    ("attention=drr schedule=none", "the failing baseline, for comparison"),
    ("schedule.total_epochs=30", "shorten every phase in proportion"),
    ("schedule.phases.joint.weights.attention.end=0.1", "any number of a schedule"),
    ("optim.lr=2e-3", "base learning rate (attention 2x, head 1x, backbone 0.1x)"),
    ("data.batch_size=8 data.num_workers=2", "per process"),
    ("trainer.precision=bf16-mixed", "any Trainer argument by its own name"),
    ("run.dir=runs/mine", "choose the run folder"),
    ("-m schedule=two_phase,none seed=1,2,3", "a sweep: one run a combination"),
    ("--cfg job", "print the composed configuration and stop"),
)


def main(argv: Sequence[str]) -> int:
    """Train one run, or sweep with -m. Returns the exit code."""
    arguments = list(argv)
    if wants_help(arguments):
        purpose = "train the dual-pathway attention model"
        return show(command_help("train", purpose, GROUPS, OVERRIDES))
    if not any(argument.startswith("-") for argument in arguments):
        compose_checked("train", arguments, TrainConfig)  # before anything heavy is imported
    return _through_hydra(relax(arguments))


def _through_hydra(arguments: list[str]) -> int:
    """Let Hydra run the job, so that -m, --cfg, --config-dir and launchers are its own."""
    import hydra
    from omegaconf import DictConfig, OmegaConf

    codes: list[int] = []

    def job(config: DictConfig) -> int:
        code = _train(OmegaConf.to_container(config, resolve=True))
        codes.append(code)
        return code

    sys.argv = ["attnseg train", *arguments]
    os.environ.setdefault("HYDRA_FULL_ERROR", "0")
    decorated = hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name="train")
    decorated(job)()
    return max(codes, default=0)


def _train(plain: Any) -> int:
    from attnseg.config import validate
    from attnseg.runs.launch import launch

    try:
        return launch(validate(plain, TrainConfig))
    except UserError as error:
        print(f"attnseg train: {error}", file=sys.stderr)
        return USER_MISTAKE
