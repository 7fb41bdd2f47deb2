"""Under a Trainer that the user has made: the same training as `attnseg train`, or a refusal."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint

from attnseg.build import build_schedule
from attnseg.common.errors import ConfigError, DataError
from attnseg.config import TrainConfig
from attnseg.data.datamodule import AttnSegDataModule
from attnseg.runs.code import code_of
from attnseg.training.callbacks import build_callbacks
from attnseg.training.callbacks.phase_switching import PhaseSwitching
from attnseg.training.identified import identified
from attnseg.training.inheritance import inherited
from attnseg.training.machine import machine_of, use_threads
from attnseg.training.preflight import refuse_unknown_monitors, refuse_unusable_precision
from attnseg.training.preparation import (
    code_goes_on,
    first_weights,
    note,
    ready_data,
    ready_network,
)
from attnseg.training.record import MadeOf
from attnseg.training.resume import ResumePoint, refuse_other_processes, resume_at
from attnseg.training.trainer import Bfloat16Precision, trainer_arguments
from attnseg.training.unkeyed import refuse_unkeyed_draws

if TYPE_CHECKING:
    from attnseg.training.module import AttnSegModule

_DECIDING = {
    "accumulate_grad_batches": 1,
    "gradient_clip_val": None,
    "check_val_every_n_epoch": 1,
    "val_check_interval": 1.0,
    "limit_train_batches": 1.0,
    "limit_val_batches": 1.0,
    "overfit_batches": 0.0,
    "fast_dev_run": False,
    "num_sanity_val_steps": 2,
    "reload_dataloaders_every_n_epochs": 0,
}
"""Arguments that decide what is trained and that a Trainer keeps by their names, with what they
are where nothing is said."""
_LONG = {"64": "64-true", "32": "32-true", "16": "16-mixed", "bf16": "bf16-mixed"}


def configured(module: AttnSegModule, trainer: pl.Trainer) -> list[pl.Callback]:
    """The callbacks that a fit lacks, and the network as they expect it.

    Raises:
        ConfigError: the Trainer contradicts the configuration.
    """
    config = module.config
    if any(isinstance(callback, PhaseSwitching) for callback in trainer.callbacks):  # type: ignore[attr-defined]
        return []
    refuse_unknown_monitors(config)
    refuse_unusable_precision(config)
    _refuse_contradicting(trainer, config)
    if config.fork is not None:
        raise ConfigError(
            "fork= makes a checkpoint in the run's folder, which a Trainer of your own has not: "
            "use attnseg.fit(config), or attnseg train"
        )
    for callback in trainer.checkpoint_callbacks:
        # Lightning's default saves after the validation, before the epoch's end: what goes on
        # from there would have lost the end.
        if isinstance(callback, ModelCheckpoint) and callback._save_on_train_epoch_end is None:
            callback._save_on_train_epoch_end = True
    # Every rank has computed the same value of what is logged.
    warnings.filterwarnings("ignore", message=".*sync_dist=True.*")
    if module.made is None:
        ready_network(module, trainer)
    return build_callbacks(config)


def _refuse_contradicting(trainer: pl.Trainer, config: TrainConfig) -> None:
    """Refuse a Trainer under which another experiment would be trained.

    Fewer epochs than the schedule's are the beginning of the same one.
    """
    said = trainer_arguments(config)
    lines = [
        f"{name}={has}: trainer_arguments(config) says {wanted}"
        for name, has, wanted in _pairs(trainer, config, said)
        if (has, isinstance(has, float)) != (wanted, isinstance(wanted, float))  # 1 batch or all
    ]
    total, most = build_schedule(config.schedule).total_epochs, trainer.max_epochs
    if most is not None and not 0 <= most <= total:
        lines.append(
            f"max_epochs={most}: trainer_arguments(config) says {said['max_epochs']}, and "
            f"the schedule has {total}"
        )
    if lines:
        raise ConfigError(
            "\n".join(
                [
                    "this Trainer contradicts the configuration:",
                    *(f"  - {line}" for line in lines),
                    "make it by pl.Trainer(**attnseg.trainer_arguments(config)), or change the "
                    "configuration",
                ]
            )
        )


def _pairs(
    trainer: pl.Trainer, config: TrainConfig, said: dict[str, Any]
) -> Iterator[tuple[str, object, object]]:
    """(argument, what the Trainer has, what the configuration wants) of all that is compared."""
    settings, precision = config.trainer, config.trainer.precision
    yield "precision", trainer.precision, _LONG.get(precision, precision)
    plugin = isinstance(trainer.precision_plugin, Bfloat16Precision)
    yield "plugins", plugin or "Lightning's own", precision == "bf16-true" or "Lightning's own"
    # These two set what the others of the kind are.
    narrowed = said.get("fast_dev_run") or said.get("overfit_batches")
    for name, default in _DECIDING.items():
        if narrowed and name.startswith("limit_"):
            continue
        wanted = said.get(name)
        yield name, getattr(trainer, name), default if wanted is None else wanted
    sampler: Any = trainer._accelerator_connector.use_distributed_sampler
    yield "use_distributed_sampler", sampler, said["use_distributed_sampler"]
    if settings.deterministic:
        yield "deterministic", torch.are_deterministic_algorithms_enabled(), True
    yield "num_nodes", trainer.num_nodes, settings.num_nodes
    if isinstance(settings.devices, (int, list)) and settings.devices != -1:
        n = settings.devices if isinstance(settings.devices, int) else len(settings.devices)
        yield "devices", trainer.num_devices, n


def identify(module: AttnSegModule, trainer: pl.Trainer) -> None:
    """Fill in what the data are made of.

    Raises:
        ConfigError, DataError: the data are not those that the configuration describes.
    """
    module.config = identified(module.config)
    if _data_of(trainer, module.config).content.digest != module.config.data_digest:
        raise DataError("the data have changed since this configuration was identified")


def going_on(module: AttnSegModule, trainer: pl.Trainer) -> ResumePoint:
    """Where training goes on.

    Raises:
        ConfigError, CheckpointError: the checkpoint is of another run.
    """
    assert trainer.ckpt_path is not None
    config = module.config
    point = resume_at(Path(trainer.ckpt_path), config, _data_of(trainer, config))
    refuse_other_processes(config, point, trainer.world_size)
    return point


def begin(module: AttnSegModule, trainer: pl.Trainer, point: ResumePoint | None) -> None:
    """What else `attnseg train` does before the first step, but for the run's folder.

    Args:
        module: identified, and restored where it goes on.
        trainer: that will train it.
        point: where it goes on; None: it begins.

    Raises:
        ConfigError, DataError, CheckpointError: as `attnseg train`.
    """
    config = module.config
    code = code_of(config)
    if point:
        code = code_goes_on(config, point, code)
    note(use_threads(config, point.record if point else {}))
    before = inherited(config, point.path if point else None, None)
    if point is None:
        first_weights(module)
    data = _data_of(trainer, config)
    described, trained, _ = ready_data(config, data, before, resumed=point is not None)
    refuse_unkeyed_draws(module, data)
    module.made = MadeOf(described, trained, code, machine_of(trainer))


def _data_of(trainer: pl.Trainer, config: TrainConfig) -> AttnSegDataModule:
    data: object = trainer.datamodule  # type: ignore[attr-defined]
    if not isinstance(data, AttnSegDataModule):
        raise ConfigError(
            "trainer.fit: give datamodule=AttnSegDataModule(config); batches that the "
            "configuration does not describe would train another experiment"
        )
    if (data.config, data.seed) != (config.data, config.seed):
        raise ConfigError(
            "trainer.fit: the data module is of another configuration than the module; make both "
            "of the same"
        )
    return data
