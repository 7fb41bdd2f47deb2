"""`attnseg train`: compose, check, launch."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence
from typing import Any

from attnseg.commands.help import command_help, keys_help, show, wants_help
from attnseg.common.credentials import concealed
from attnseg.common.errors import (
    FAILED,
    USER_MISTAKE,
    ConfigError,
    UserError,
    WriteError,
    wrong_path,
)
from attnseg.common.paths import conf_dir
from attnseg.config import OptunaSweepConfig, TrainConfig
from attnseg.config.component import without_replaced
from attnseg.config.compose import compose_checked, explain, given_keys, relax, with_project
from attnseg.config.environment import composed

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
    "launcher",
    "sweep",
)
_MULTIRUN = ("-m", "--multirun")
_HYDRA_FLAGS = ("cfg", "info", "package", "config-path", "config-name", "config-dir", "hydra-help")
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
    ("resume=none", "start afresh; auto (default) goes on; or a run folder, or a .ckpt"),
    ("fork=PATH", "go on from a checkpoint under a changed configuration, as a new run"),
    ("warmstart=PATH", "begin with the weights of a run folder, .ckpt or .safetensors"),
    ("-m schedule=two_phase,none seed=1,2,3", "a sweep: one run a combination, resumable"),
    ("-m ... launcher=joblib launcher.n_jobs=4", "several runs at once (joblib, submitit, Ray)"),
    ("-m ... sweep=optuna 'optim.lr=interval(1e-4,1e-2)'", "a search, also resumable"),
    ("--cfg job", "print the composed configuration and stop"),
    ("--help data", "the keys of a group (or any dotted key): type, default, meaning"),
)


def main(argv: Sequence[str]) -> int:
    """Train one run, or sweep with -m. Returns the exit code."""
    arguments = without_hyphens(argv)
    if wants_help(arguments):
        if words := [word for word in arguments if not word.startswith("-")]:
            return show(keys_help("train", TrainConfig, words))
        purpose = "train the dual-pathway attention model"
        return show(command_help("train", purpose, GROUPS, OVERRIDES))
    flags = [word for word in arguments if word.startswith("-")]
    overrides = [word for word in arguments if word not in flags]
    if not flags:
        config = compose_checked("train", overrides, TrainConfig)  # before a heavy import
        _refuse_search_of_one(config)
    if set(flags) & set(_MULTIRUN):
        if set(flags) - set(_MULTIRUN):
            raise ConfigError(
                "-m goes with overrides only: leave it out to see a configuration (--cfg job); a "
                "folder with more configs is hydra.searchpath=[file:///path]"
            )
        from attnseg.commands.sweep import sweep

        return sweep(overrides)
    return _through_hydra(flags_first(with_project(relax(arguments, TrainConfig))))


def without_hyphens(argv: Sequence[str]) -> list[str]:
    """`--optim.lr=1e-3` is `optim.lr=1e-3`: what a W&B sweep agent passes as ${args}."""
    words = []
    for word in argv:
        key = word.removeprefix("--").partition("=")[0]
        ours = word.startswith("--") and "=" in word and key not in _HYDRA_FLAGS
        words.append(word.removeprefix("--") if ours else word)
    return words


def _refuse_search_of_one(config: TrainConfig) -> None:
    if isinstance(config.sweep, OptunaSweepConfig):
        raise ConfigError("sweep=optuna makes many runs: add -m (or sweep=grid for this one run)")


def flags_first(arguments: Sequence[str]) -> list[str]:
    """Hydra's argparse takes overrides in one piece only: `seed=1 -m lr=2` is none to it."""
    overrides = [word for word in arguments if word[:1] == "~" or ("=" in word and word[:1] != "-")]
    return [word for word in arguments if word not in overrides] + overrides


def _through_hydra(arguments: list[str]) -> int:
    """Let Hydra run the job, so that --cfg, --info and --config-dir are its own."""
    import hydra
    from omegaconf import DictConfig

    codes: list[int] = []

    def job(config: DictConfig) -> int:
        codes.append(_train(config, arguments))
        return codes[-1]

    sys.argv = ["attnseg train", *arguments]
    os.environ["HYDRA_FULL_ERROR"] = "1"  # its errors come to us, as they are
    decorated = hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name="train")
    try:
        decorated(job)()
    except Exception as error:  # a job raises none, so this is about composing
        shown = [word.removeprefix("++") for word in arguments]
        raise ConfigError(explain(error, shown)) from None
    return max(codes, default=0)


def _train(config: Any, words: Sequence[str]) -> int:
    """One run."""
    from attnseg.config import validate
    from attnseg.training.launch import launch

    try:
        checked = validate(
            without_replaced(_plain(config), given_keys(words)), TrainConfig, imports=True
        )
        _refuse_search_of_one(checked)
        return launch(checked)
    except UserError as error:
        print(f"attnseg train: {error}", file=sys.stderr)
        return USER_MISTAKE
    except Exception as error:
        if (told := wrong_path(error)) is not None:
            print(f"attnseg train: {told}", file=sys.stderr)
            return FAILED if isinstance(error, WriteError) else USER_MISTAKE
        print(concealed(traceback.format_exc()), file=sys.stderr)
        return FAILED


def _plain(config: Any) -> Any:
    from omegaconf.errors import OmegaConfBaseException

    sys.argv = concealed(sys.argv)  # Hydra has read them, and now loggers do
    try:
        return composed(config)
    except OmegaConfBaseException as error:
        raise ConfigError(explain(error, ())) from None
