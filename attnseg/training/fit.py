"""The recipe of a training run, on each of its processes."""

from __future__ import annotations

import shutil
import sys
import traceback
import warnings
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from lightning_fabric.utilities.exceptions import MisconfigurationException
from lightning_utilities.core.rank_zero import rank_zero_only
from pytorch_lightning.loggers import Logger

from attnseg.build import build_schedule
from attnseg.common.console import tell
from attnseg.common.credentials import concealed
from attnseg.common.errors import (
    FAILED,
    INTERRUPTED,
    UNANSWERED,
    ConfigError,
    DataError,
    FolderLostError,
    NonFiniteError,
    UserError,
    WriteError,
)
from attnseg.common.files import make_folder, may_write, write_text
from attnseg.common.memory import reuse_freed_memory
from attnseg.common.processes import is_timeout, leave_group
from attnseg.config import TrainConfig
from attnseg.data.datamodule import AttnSegDataModule
from attnseg.runs.adoption import adopt_ids, record_content, runs_on_other_data
from attnseg.runs.code import code_of, listed
from attnseg.runs.folder import RunFolder, environment, folder_of, now, refuse_foreign
from attnseg.runs.identity import identity_record, run_name
from attnseg.runs.patients import KEY as PATIENTS
from attnseg.runs.states import has_nothing_left, read_state
from attnseg.training.callbacks.interruption import Interrupted, LimitReached, StopRequest
from attnseg.training.callbacks.pruning import Pruned
from attnseg.training.group import first_of_group
from attnseg.training.identified import identified
from attnseg.training.inheritance import inherited
from attnseg.training.loggers import close
from attnseg.training.machine import machine_of, other_processor, own_threads, use_threads
from attnseg.training.module import AttnSegModule
from attnseg.training.origin import fork, read_parent
from attnseg.training.preparation import (
    code_goes_on,
    first_weights,
    note,
    ready_data,
    ready_network,
)
from attnseg.training.record import MadeOf
from attnseg.training.resume import (
    adopt,
    adopts,
    refuse_other_code,
    refuse_other_processes,
    refuse_to_begin_over,
    restarted,
    resume_point,
    saved_so_far,
)
from attnseg.training.slurm import requeue_if_asked
from attnseg.training.trainer import build_trainer
from attnseg.training.unkeyed import refuse_unkeyed_draws

_AGAINST_DIVERGENCE = (
    "Look at these cases (attnseg data check), lower optim.lr, or train in "
    "trainer.precision=32-true."
)


def fit(
    config: TrainConfig, callbacks: Sequence[pl.Callback] = (), loggers: Sequence[Logger] = ()
) -> int:
    """Train, from the start or from where this run stopped.

    Args:
        config: of the run.
        callbacks, loggers: Lightning's, beside those that the configuration names.

    Returns:
        0 finished, 1 failed, 2 the user's mistake, 75 interrupted and resumable.
    """
    if restarted():
        config = config.model_copy(update={"resume": "auto"})
    config = identified(config)
    folder = folder_of(config)
    stop = StopRequest()
    with stop.listening(), own_threads():
        try:
            return _train(config, folder, stop, callbacks, loggers)
        except Interrupted as request:  # before the run began: there is nothing to note or save
            tell(f"{request}; the same command begins or goes on: {folder.path}")
            return INTERRUPTED
        except (WriteError, FolderLostError) as error:  # before the first step
            print(f"attnseg train: {error}", file=sys.stderr)
            return FAILED
        finally:
            leave_group()


def _train(
    config: TrainConfig,
    folder: RunFolder,
    stop: StopRequest,
    callbacks: Sequence[pl.Callback],
    loggers: Sequence[Logger],
) -> int:
    """Everything before Lightning's part, and that."""
    data = AttnSegDataModule(config)
    _refuse_changing(config, data)
    refuse_foreign(folder, config, data)
    status = folder.read_status()
    if config.resume != "none" and adopts(status, data, folder.path):
        tell(f"note: {folder.path}: its content was not recorded; today's data are taken for it")
        if first_of_group():
            adopt_ids(folder, config, data)
    code = code_of(config)
    if config.resume == "auto" and _is_finished(config, folder):
        changed = refuse_other_code(config, folder.read_status().get("code"), code, folder.path)
        by = f", by code that has changed since ({listed(changed)})" if changed else ""
        tell(f"this run is finished{by}: {folder.path} (resume=none trains it again)")
        if folder.lacks_report() and not folder.is_held():
            _report(folder)
        return 0
    point = resume_point(config, folder, data)
    start, then = (point.path, point.record) if point else (None, {})
    if point:
        code = code_goes_on(config, point, code)
    else:
        _tell_of_other_data(folder, config, data)
    parent = read_parent(config, data) if config.fork and start is None else None
    if parent and parent.data:
        _tell_changes(f"note: the fork goes on on other data than {parent.path} did", parent.data)
    _quieten()
    note(use_threads(config, then))
    trainer = build_trainer(config, folder, stop, callbacks, loggers)
    if point:
        refuse_other_processes(config, point, trainer.world_size)
    machine = machine_of(trainer)
    if other := other_processor(then, machine):
        note(f"another processor ({other}): the last digits may differ from one machine's run")
    if config.trainer.reuse_memory and trainer.strategy.root_device.type == "cpu":
        reuse_freed_memory()
    module = AttnSegModule(config)
    before = inherited(config, start, parent)
    ready_network(module, trainer)
    began = {} if start else first_weights(module)
    described, trained, known = ready_data(config, data, before, resumed=start is not None)
    refuse_unkeyed_draws(module, data)
    began |= known
    module.made = MadeOf(described, trained, code, machine)
    _tell_of_no_validation(config, trainer)
    with ExitStack() as stack:
        if trainer.is_global_zero:
            make_folder(folder.path, "run.dir" if config.run.dir else "run.root")
            stack.enter_context(folder.held())
            if start is None:
                if config.resume != "none":  # what was there at first may not be all
                    refuse_to_begin_over(folder)
                _clear(folder)
                if parent is not None:
                    began["fork"] = fork(parent, config, folder, module.made)
            else:
                adopt(start, folder)
            began |= {PATIENTS: trained.record(), **module.made.computed_by}
            _begin(folder, config, described, began, resumed=start is not None)
            record_content(folder, data.content)
        if start is None and config.fork:
            start = folder.last  # which rank zero has made, before the ranks meet
        parent = None  # else its checkpoint stays in memory for the whole run
        try:
            return _fit(trainer, module, data, folder, start, stop)
        except UserError as error:  # what was resumable still is
            _end(folder, "interrupted" if start else "failed", reason=str(error))
            raise
        except Exception as error:
            _end(folder, "failed", reason=f"{type(error).__name__}: {error}")
            _keep_traceback(folder, trainer.global_rank)
            raise


def _fit(
    trainer: pl.Trainer,
    module: AttnSegModule,
    data: AttnSegDataModule,
    folder: RunFolder,
    start: Path | None,
    stop: StopRequest,
) -> int:
    """Lightning's part, and what its end means for the run's status; returns the exit code."""
    run = module.config.run
    try:
        trainer.fit(module, datamodule=data, ckpt_path=start, weights_only=True)
        may_write(folder.path)
    except LimitReached as reached:
        done = folder.read_status().get("epoch", 0)
        _end(folder, "finished", reason=str(reached), epoch=done)
        tell(f"{reached}\nwithout that limit the same command goes on from there: {folder.path}")
        return 0
    except Interrupted as request:
        _end(folder, "interrupted", reason=str(request))
        tell(f"{request}\nthe same command goes on from there: {folder.path}")
        if run.slurm_requeue and first_of_group():
            requeue_if_asked(stop.received)
        return INTERRUPTED
    except (SystemExit, KeyboardInterrupt):  # Lightning makes the one of the other
        _end(folder, "interrupted", reason="stopped at once")
        tell(f"stopped at once; the same command goes on from the last save: {folder.path}")
        return INTERRUPTED
    except Pruned as given_up:
        _end(folder, "pruned", reason=str(given_up))
        tell(f"{given_up}: {folder.path}")
        return 0
    except NonFiniteError as error:  # on all ranks at once
        if trainer.is_global_zero:
            _fail(folder, f"{error}. {saved_so_far(folder)} {_AGAINST_DIVERGENCE}")
        return FAILED
    except FolderLostError as error:  # on all ranks at once; nothing can be noted
        if trainer.is_global_zero:
            print(f"attnseg train: {error}", file=sys.stderr)
        return FAILED
    except RuntimeError as error:
        if not is_timeout(error):
            raise
        _end(folder, "interrupted", reason="another process of the group gave no answer")
        silence = f"another process gave no answer for {run.timeout_s} s (run.timeout_s)"
        print(f"rank {trainer.global_rank}: {silence}", file=sys.stderr)
        return UNANSWERED
    except OSError as error:  # a full disk, say: no fault of the code
        _fail(folder, str(error))
        _keep_traceback(folder, trainer.global_rank)
        return FAILED
    except MisconfigurationException as error:
        raise ConfigError(f"trainer: {error}") from None
    finally:
        stop.insist()  # Lightning gives back what it found, in its own way
        stop.preparing = False
        close(trainer.loggers)
    reason = "early stopping" if trainer.should_stop else "all epochs"
    _end(folder, "finished", reason, report="pending")
    if trainer.is_global_zero:
        _report(folder)
    return 0


def _is_finished(config: TrainConfig, folder: RunFolder) -> bool:
    """Whether nothing is left to train; a run that `max_epochs` cut short has more to do."""
    status = folder.read_status()
    state, _ = read_state(folder, build_schedule(config.schedule).total_epochs, status)
    return has_nothing_left(state, status, config.trainer.max_epochs)


def _refuse_changing(config: TrainConfig, data: AttnSegDataModule) -> None:
    """Refuse data that are no longer what the launcher saw, which may be days ago in a sweep."""
    if first_of_group() and data.content.digest != config.data_digest:
        raise DataError(
            "the data have changed since this command began; give it again for what they are now"
        )


@rank_zero_only
def _tell_of_other_data(folder: RunFolder, config: TrainConfig, data: AttnSegDataModule) -> None:
    """Say that there is a run of this configuration that other data have made."""
    for other in runs_on_other_data(folder, config):
        what = f"note: {other.path} is the same configuration on other data, and stays as it is"
        _tell_changes(what, other.data_changes(config, data))


def _tell_changes(what: str, lines: list[str]) -> None:
    tell("\n".join([f"{what}. What has changed since:", *(f"  - {line}" for line in lines)]))


def _tell_of_no_validation(config: TrainConfig, trainer: pl.Trainer) -> None:
    """Say so where the validation set is never looked at."""
    settings, epochs = config.trainer, trainer.max_epochs or 0
    if settings.limit_val_batches == 0:
        why = f"trainer.limit_val_batches={settings.limit_val_batches}"
    elif settings.check_val_every_n_epoch > epochs:
        every = settings.check_val_every_n_epoch
        why = f"trainer.check_val_every_n_epoch={every} is beyond the last epoch ({epochs})"
    else:
        return
    tell(
        f"note: {why}: nothing is measured, the threshold stays what it is (0.5 in a new run), no "
        "best.ckpt is chosen, and last.ckpt is the result"
    )


def _keep_traceback(folder: RunFolder, rank: int) -> None:
    name = f"traceback-rank{rank}.txt" if rank else "traceback.txt"
    with suppress(OSError):
        write_text(folder.path / name, concealed(traceback.format_exc()))


@rank_zero_only
def _begin(
    folder: RunFolder,
    config: TrainConfig,
    data: dict[str, Any],
    began: dict[str, Any],
    *,
    resumed: bool,
) -> None:
    identity = identity_record(config)
    folder.write_config(config)
    started = {} if resumed else {"started": now()}
    folder.update_status(
        state="running",
        **identity,
        name=run_name(config),
        reason=None,
        data=data,
        **started,
        **began,
        **environment(),
    )
    what = f"{run_name(config)} ({identity['id']}): {folder.path}"
    tell(f"going on with {what}" if resumed else f"run {what}")


@rank_zero_only
def _end(folder: RunFolder, state: str, reason: str, **more: Any) -> None:
    """Note how it ended; a full disk must not hide why, and there may be no folder yet."""
    if folder.status.is_file():
        folder.try_update_status(state=state, reason=reason, ended=now(), **more)


def _fail(folder: RunFolder, reason: str) -> None:
    _end(folder, "failed", reason=reason)
    print(f"attnseg train: {reason}", file=sys.stderr)


@rank_zero_only
def _report(folder: RunFolder) -> None:
    """Pictures and the page, made from the files of the folder alone."""
    from attnseg.reports.page import write_run_report

    best = folder.read_status().get("best")
    if best and best["value"] is not None:
        tell(f"best {best['metric']} {best['value']:.4f} in epoch {best['epoch']}")
    try:
        page = f"report:     {write_run_report(folder.path)}"
    except Exception as error:  # the run itself is whole
        page = f"note: the report could not be written ({error}); attnseg report writes it"
    tell(f"run folder: {folder.path}\n{page}")


@rank_zero_only
def _clear(folder: RunFolder) -> None:
    """Remove what an earlier attempt at the same run left; nothing else in the folder."""
    checkpoints = (folder.last, folder.best)
    tracebacks = folder.path.glob("traceback*.txt")
    for path in (folder.ledger, folder.status, *checkpoints, *tracebacks):
        path.unlink(missing_ok=True)
    shutil.rmtree(folder.report, ignore_errors=True)


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
        ".*Total length of `list` across ranks is zero.*",  # no validation: `_refuse_lesionless`
        ".*LeafSpec.*",
        ".*isinstance.treespec.*",
        ".*`srun` command is available.*",  # launch says it where it matters
        ".*sync_dist=True.*",  # every rank has computed the same value
    ):
        warnings.filterwarnings("ignore", message=pattern)
