"""The recipe of a training run, on each of its processes."""

from __future__ import annotations

import shutil
import sys
import traceback
import warnings
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from lightning_fabric.utilities.exceptions import MisconfigurationException
from lightning_utilities.core.rank_zero import rank_zero_only

from attnseg.callbacks.interruption import Interrupted, Interruption
from attnseg.callbacks.monitoring import refuse_unknown, tell
from attnseg.callbacks.pruning import Pruned
from attnseg.config import TrainConfig
from attnseg.data.datamodule import AttnSegDataModule
from attnseg.errors import (
    FAILED,
    INTERRUPTED,
    ConfigError,
    DataError,
    NonFiniteLossError,
    UserError,
)
from attnseg.metrics.collection import ValidationMetrics
from attnseg.module import AttnSegModule
from attnseg.runs.files import make_folder
from attnseg.runs.folder import RunFolder, environment, folder_of, now, refuse_foreign
from attnseg.runs.identity import run_identity, run_name
from attnseg.runs.resume import adopt, refuse_other_data, resume_point
from attnseg.runs.trainer import build_trainer
from attnseg.schedules import Schedule


def fit(config: TrainConfig) -> int:
    """Train, from the start or from where this run stopped.

    Returns:
        0 finished, 1 failed, 2 the user's mistake, 75 interrupted and resumable.
    """
    folder = folder_of(config)
    refuse_foreign(folder, run_identity(config))
    data = AttnSegDataModule(config.data, config.seed)
    if config.run.resume != "none":
        refuse_other_data(folder.read_status().get("data"), data.fingerprint, folder.path)
    if config.run.resume == "auto" and _is_finished(config, folder):
        tell(f"this run is finished: {folder.path} (run.resume=none trains it again)")
        return 0
    start = resume_point(config, folder, data.fingerprint)
    _quieten()
    if config.trainer.num_threads:
        torch.set_num_threads(config.trainer.num_threads)
    trainer = build_trainer(config, folder)
    module = AttnSegModule(config)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that nothing is measured yet
        validation = ValidationMetrics(has_attention=module.model.has_attention)
        refuse_unknown(config.callbacks, validation.compute())
    if config.trainer.channels_last:
        module.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if config.trainer.compile:
        module.model.compile()  # in place: the names in the state dict stay
    data.prepare_data()
    data.setup("fit")
    module.data_record = data.record
    _refuse_lesionless(data.record)
    with ExitStack() as stack:
        if trainer.is_global_zero:
            make_folder(folder.path, "run.dir" if config.run.dir else "run.root")
            stack.enter_context(folder.held())
            if start is None:
                _clear(folder)
            else:
                adopt(start, folder)
            _begin(folder, config, data.record, resumed=start is not None)
        return _fit(trainer, module, data, folder, start)


def _fit(
    trainer: pl.Trainer,
    module: AttnSegModule,
    data: AttnSegDataModule,
    folder: RunFolder,
    start: Path | None,
) -> int:
    """Lightning's part, and what its end means for the run's status; returns the exit code."""
    try:
        trainer.fit(module, datamodule=data, ckpt_path=start, weights_only=True)
    except Interrupted as stop:
        _end(folder, "interrupted", reason=str(stop))
        tell(f"{stop}\nthe same command goes on from there: {folder.path}")
        return INTERRUPTED
    except Pruned as stop:
        _end(folder, "pruned", reason=str(stop))
        tell(f"{stop}: {folder.path}")
        return 0
    except SystemExit:  # how Lightning passes on a second Ctrl-C
        _end(folder, "interrupted", reason="stopped at once")
        tell(f"stopped at once; the same command goes on from the last save: {folder.path}")
        return INTERRUPTED
    except UserError as error:
        _end(folder, "failed", reason=str(error))
        raise
    except MisconfigurationException as error:
        _end(folder, "failed", reason=str(error))
        raise ConfigError(f"trainer: {error}") from None
    except NonFiniteLossError as error:
        _end(folder, "failed", reason=str(error))
        (folder.path / "traceback.txt").write_text(traceback.format_exc())
        print(f"attnseg train: {error}", file=sys.stderr)
        return FAILED
    except Exception as error:
        _end(folder, "failed", reason=f"{type(error).__name__}: {error}")
        (folder.path / "traceback.txt").write_text(traceback.format_exc())
        raise
    finally:
        _let_go(trainer)
    _end(folder, "finished", reason="early stopping" if trainer.should_stop else "all epochs")
    if trainer.is_global_zero:
        _report(folder)
    return 0


def _is_finished(config: TrainConfig, folder: RunFolder) -> bool:
    """Whether nothing is left to train; a run that `max_epochs` cut short has more to do."""
    status = folder.read_status()
    if status.get("state") != "finished" or status.get("reason") == "early stopping":
        return status.get("state") == "finished"
    total = Schedule(config.schedule).total_epochs
    return int(status.get("epoch", total)) >= min(total, config.trainer.max_epochs or total)


def _refuse_lesionless(record: dict[str, Any]) -> None:
    """Refuse to train where there is nothing to learn from; say where nothing can be measured."""
    splits = record["splits"]
    if not splits["train"]["positives"]:
        raise DataError(
            f"none of the {splits['train']['cases']} training cases has a lesion: nothing can be "
            "learned; add positive cases, or divide them otherwise (data.split)"
        )
    if not splits["val"]["positives"]:
        tell(
            f"note: none of the {splits['val']['cases']} validation cases has a lesion; what needs "
            "one is not measured, and best.ckpt is the newest"
        )


def _let_go(trainer: pl.Trainer) -> None:
    """Leave nothing behind for the next run of a sweep: signal handlers, a run of W&B."""
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, Interruption):
            callback.release()
    wandb = sys.modules.get("wandb")
    if wandb is not None and wandb.run is not None:
        wandb.finish()


@rank_zero_only
def _begin(folder: RunFolder, config: TrainConfig, data: dict[str, Any], *, resumed: bool) -> None:
    identity = run_identity(config)
    folder.write_config(config)
    started = {} if resumed else {"started": now()}
    folder.update_status(
        state="running",
        id=identity,
        name=run_name(config),
        reason=None,
        data={key: value for key, value in data.items() if key != "train_patients"},
        **started,
        **environment(),
    )
    tell(f"{'going on with' if resumed else 'run'} {run_name(config)} ({identity}): {folder.path}")


@rank_zero_only
def _end(folder: RunFolder, state: str, reason: str) -> None:
    folder.update_status(state=state, reason=reason, ended=now())


@rank_zero_only
def _report(folder: RunFolder) -> None:
    """Pictures and the page, made from the files of the folder alone."""
    from attnseg.reports.page import write_run_report

    page = write_run_report(folder.path)
    best = folder.read_status().get("best")
    if best and best["value"] is not None:
        tell(f"best {best['metric']} {best['value']:.4f} in epoch {best['epoch']}")
    tell(f"run folder: {folder.path}\nreport:     {page}")


@rank_zero_only
def _clear(folder: RunFolder) -> None:
    """Remove what an earlier attempt at the same run left; nothing else in the folder."""
    for path in (folder.ledger, folder.status, folder.path / "traceback.txt"):
        path.unlink(missing_ok=True)
    for path in (folder.last.parent, folder.report):
        shutil.rmtree(path, ignore_errors=True)


def _quieten() -> None:
    """Silence what a user can do nothing about."""
    import logging

    for name in ("utilities.rank_zero", "trainer.connectors.checkpoint_connector"):
        logging.getLogger(f"pytorch_lightning.{name}").setLevel(logging.WARNING)
    for pattern in (
        ".*does not have many workers.*",
        ".*smaller than the logging interval.*",
        ".*GPU available but not used.*",
        ".*No device id is provided.*",
        ".*LeafSpec.*",
        ".*isinstance.treespec.*",
    ):
        warnings.filterwarnings("ignore", message=pattern)
