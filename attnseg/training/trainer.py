"""A Lightning Trainer from the configuration."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytorch_lightning as pl
import torch
from lightning_fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from lightning_fabric.plugins.environments.slurm import SLURMEnvironment
from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning_fabric.utilities.exceptions import MisconfigurationException
from pytorch_lightning.loggers import Logger
from pytorch_lightning.plugins.precision import HalfPrecision
from pytorch_lightning.profilers import AdvancedProfiler, PyTorchProfiler, SimpleProfiler
from pytorch_lightning.strategies import DDPStrategy
from torch.distributed.constants import default_pg_timeout

from attnseg.build import build_schedule
from attnseg.common.errors import ConfigError
from attnseg.config import TrainConfig
from attnseg.runs.checkpoints import AtomicCheckpointIO
from attnseg.runs.folder import RunFolder
from attnseg.training.callbacks import build_callbacks
from attnseg.training.callbacks.interruption import StopRequest
from attnseg.training.group import group
from attnseg.training.loggers import build_loggers

_NOT_LIGHTNINGS = {
    "max_epochs",
    "compile",
    "channels_last",
    "num_threads",
    "reuse_memory",
    "progress_bar",
    "max_steps",
    "max_time",
}  # keys of `trainer` that are used elsewhere, or given by another name

_PROFILERS: dict[str, Any] = {
    "simple": SimpleProfiler,
    "advanced": AdvancedProfiler,
    "pytorch": PyTorchProfiler,
}
"""Whose tables go into the run's folder."""


def build_trainer(
    config: TrainConfig,
    folder: RunFolder,
    stop: StopRequest,
    callbacks: Sequence[pl.Callback] = (),
    loggers: Sequence[Logger] = (),
) -> pl.Trainer:
    """The Trainer of a run, which a request can stop.

    Args:
        config: of the run.
        folder: its.
        stop: the request.
        callbacks, loggers: beside those that the configuration names.

    Raises:
        ConfigError: Lightning refuses a value (an accelerator that is not there, say).
    """
    try:
        arguments = {"enable_model_summary": False, **trainer_arguments(config)}
        if profiler := _PROFILERS.get(str(arguments.get("profiler")).lower()):
            arguments["profiler"] = profiler(dirpath=folder.path, filename="profile")
        return pl.Trainer(
            **arguments,
            callbacks=build_callbacks(config, folder, stop, callbacks),
            logger=[*build_loggers(config, folder), *loggers] or False,
            default_root_dir=folder.path,
        )
    except (MisconfigurationException, RuntimeError, ValueError, TypeError, ImportError) as error:
        raise ConfigError(f"trainer: {error}") from None


def trainer_arguments(config: TrainConfig) -> dict[str, Any]:
    """What Lightning's Trainer has to be given to train a configuration as `attnseg train` does.

    `pl.Trainer(**trainer_arguments(config), callbacks=..., logger=...)` with
    `AttnSegModule(config)` and `AttnSegDataModule(config)` is the same training to the bit. Where
    results go (logger, checkpoints, default_root_dir) is left to you, and so are max_steps and
    max_time, which Lightning itself obeys in its own way: part of an epoch counts as one.

    Raises:
        ConfigError: the processes that were started do not fit together.
    """
    settings = config.trainer
    total = build_schedule(config.schedule).total_epochs
    options: dict[str, Any] = settings.model_dump(exclude=_NOT_LIGHTNINGS)
    if settings.strategy == "ddp":
        options["strategy"] = DDPStrategy(
            find_unused_parameters=_leaves_parts_without_gradient(config),
            timeout=max(default_pg_timeout, timedelta(seconds=config.run.timeout_s)),
        )
    plugins: list[Any] = [AtomicCheckpointIO(), *_environment()]
    if settings.precision == "bf16-true":
        plugins.append(Bfloat16Precision(options.pop("precision")))
    return options | {
        "max_epochs": min(total, settings.max_epochs or total),
        "gradient_clip_val": config.optim.gradient_clip_norm,
        "gradient_clip_algorithm": "norm",
        "plugins": plugins,
        "enable_progress_bar": settings.progress_bar,
        "num_sanity_val_steps": 0,  # the first epoch validates soon enough, and exactly
        "use_distributed_sampler": False,  # ours shards without repeating cases
    }


class Bfloat16Precision(HalfPrecision):
    """The network in bfloat16; what is measured and the loss's own weights as they are.

    The module rounds the images to what the network takes.
    """

    def convert_module(self, module: Any) -> Any:
        """Of an `AttnSegModule` the network alone."""
        module.model.to(torch.bfloat16)
        return module

    def convert_input(self, data: Any) -> Any:
        """A batch, masks and spacing (mm) among it, stays."""
        return data


def _environment() -> list[ClusterEnvironment]:
    """Who has started this process, said outright.

    Lightning guesses, and takes SLURM's variables for a group of tasks also in a batch script
    that no srun has started, or inside torchrun.
    """
    match group():
        case "torchrun":
            return [TorchElasticEnvironment()]
        case "slurm":
            try:
                return [SLURMEnvironment(auto_requeue=False)]  # ours requeues after saving
            except RuntimeError:  # Lightning counts on SLURM_NTASKS_PER_NODE
                tasks = os.environ["SLURM_NTASKS"]
                raise ConfigError(
                    f"srun --ntasks={tasks}: give --ntasks-per-node (and --nodes) instead"
                ) from None
    return [LightningEnvironment()]


def _leaves_parts_without_gradient(config: TrainConfig) -> bool:
    """Whether some phase has no segmentation loss, so that the decoder gets no gradient."""
    schedule = build_schedule(config.schedule)
    return any(schedule.weights(phase.start)["segmentation"] == 0 for phase in schedule.phases)
