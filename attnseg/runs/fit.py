"""The recipe of a training run, on each of its processes."""

from __future__ import annotations

import shutil
import sys
import traceback
import warnings
from typing import Any

import torch
from lightning_utilities.core.rank_zero import rank_zero_only

from attnseg.callbacks.interruption import Interrupted
from attnseg.callbacks.monitoring import tell
from attnseg.config import TrainConfig
from attnseg.data.datamodule import AttnSegDataModule
from attnseg.errors import NonFiniteLossError, UserError
from attnseg.module import AttnSegModule
from attnseg.runs.folder import RunFolder, environment, folder_of, now, refuse_foreign
from attnseg.runs.identity import run_identity, run_name
from attnseg.runs.resume import resume_point
from attnseg.runs.trainer import build_trainer

FAILED, INTERRUPTED = 1, 75  # 75 is EX_TEMPFAIL: try again, nothing is lost


def fit(config: TrainConfig) -> int:
    """Train, from the start or from where this run stopped.

    Returns:
        0 finished, 1 failed, 2 the user's mistake, 75 interrupted and resumable.
    """
    folder, identity = folder_of(config), run_identity(config)
    refuse_foreign(folder, identity)
    if folder.read_status().get("state") == "finished" and config.run.resume == "auto":
        tell(f"this run is finished: {folder.path} (run.resume=none trains it again)")
        return 0
    start = resume_point(config, folder)
    _quieten()
    if config.trainer.num_threads:
        torch.set_num_threads(config.trainer.num_threads)
    trainer = build_trainer(config, folder)
    data = AttnSegDataModule(config.data, config.seed)
    module = AttnSegModule(config)
    if config.trainer.channels_last:
        module.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if config.trainer.compile:
        module.model.compile()  # in place: the names in the state dict stay
    data.prepare_data()
    data.setup("fit")
    module.data_record = data.record
    if trainer.is_global_zero:
        if start is None and folder.path.exists():
            _clear(folder)
        _begin(folder, config, identity, data.record, resumed=start is not None)
    try:
        trainer.fit(module, datamodule=data, ckpt_path=start, weights_only=True)
    except Interrupted as stop:
        _end(folder, "interrupted", reason=str(stop))
        tell(f"{stop}\nthe same command goes on from there: {folder.path}")
        return INTERRUPTED
    except SystemExit:  # how Lightning passes on a second Ctrl-C
        _end(folder, "interrupted", reason="stopped at once")
        return INTERRUPTED
    except UserError as error:
        _end(folder, "failed", reason=str(error))
        raise
    except NonFiniteLossError as error:
        _end(folder, "failed", reason=str(error))
        print(f"attnseg train: {error}", file=sys.stderr)
        return FAILED
    except Exception as error:
        _end(folder, "failed", reason=f"{type(error).__name__}: {error}")
        (folder.path / "traceback.txt").write_text(traceback.format_exc())
        raise
    _end(folder, "finished", reason="early stopping" if trainer.should_stop else "all epochs")
    if trainer.is_global_zero:
        _report(folder)
    return 0


@rank_zero_only
def _begin(
    folder: RunFolder, config: TrainConfig, identity: str, data: dict[str, Any], *, resumed: bool
) -> None:
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
    if best:
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
