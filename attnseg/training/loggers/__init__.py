"""Loggers beside the ledger: W&B, TensorBoard, MLflow. None of them can stop a training."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytorch_lightning.loggers.logger import DummyLogger

from attnseg.common.errors import ConfigError
from attnseg.config import TrainConfig
from attnseg.runs.folder import RunFolder
from attnseg.training.loggers.others import other_logger
from attnseg.training.loggers.resilience import on_rank_zero

if TYPE_CHECKING:
    from pytorch_lightning.loggers import Logger

    from attnseg.reports.overlays import OverlayCase

_NEEDS = {"tensorboard": ("tensorboard",), "mlflow": ("mlflow", "sqlalchemy", "alembic")}


def build_loggers(config: TrainConfig, folder: RunFolder) -> list[Logger]:
    """The loggers of a run, on rank zero; other ranks have none.

    W&B is not opened yet: that is left to Lightning, which asks for `experiment` when the run
    starts.

    Raises:
        ConfigError: a logger's package is not installed (the message names the extra), or
            MLflow's store cannot be opened.
    """
    settings = config.logger
    for name, packages in _NEEDS.items():
        missing = [p for p in packages if importlib.util.find_spec(p) is None]
        if getattr(settings, name) and missing:
            raise ConfigError(
                f"logger={name} needs {' and '.join(missing)}: pip install 'attnseg[{name}]'"
            )
    if not on_rank_zero():  # somebody's callback may ask whether there is one
        any_ = settings.wandb or settings.tensorboard or settings.mlflow or settings.others
        return [DummyLogger()] if any_ else []
    loggers: list[Logger] = []
    if settings.wandb and os.environ.get("WANDB_MODE") != "disabled":
        from attnseg.training.loggers.wandb_logger import WandbRunLogger

        loggers.append(WandbRunLogger(config, folder))
    if settings.tensorboard:
        from attnseg.training.loggers.tensorboard import TensorBoard

        loggers.append(TensorBoard(folder))
    if settings.mlflow:
        from attnseg.training.loggers.mlflow import mlflow_logger

        loggers.append(mlflow_logger(config, folder))
    return loggers + [
        other_logger(name, chosen, folder.path) for name, chosen in settings.others.items()
    ]


def log_overlays(
    loggers: Sequence[Any], cases: Sequence[OverlayCase], picture: Path, epoch: int, step: int
) -> None:
    """Hand the pictures of an epoch to the loggers that have pictures.

    Args:
        loggers: the trainer's.
        cases: what is drawn.
        picture: the drawing of all cases, a PNG.
        epoch: the first is 1.
        step: of the optimizer.
    """
    for logger in loggers:
        show = getattr(logger, "log_overlays", None)
        if show is not None:
            show(cases, picture, epoch, step)


def close(loggers: Sequence[Any]) -> None:
    """Let go of what a run's loggers hold, whatever became of the run; raises nothing."""
    for logger in loggers:
        let_go = getattr(logger, "close", None)
        if let_go is not None:
            let_go()
