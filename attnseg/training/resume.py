"""Where a run goes on: at its own last checkpoint, or at one it is given."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any, Protocol

from attnseg.common.errors import CheckpointError, ConfigError
from attnseg.common.files import write_atomically
from attnseg.common.finite import broken_state
from attnseg.config import TrainConfig, validate
from attnseg.config.trust import refuse_untrusted, trust_of
from attnseg.runs.archive import KEY
from attnseg.runs.checkpoints import diverged, find_checkpoint, read_checkpoint
from attnseg.runs.code import changed_files, listed
from attnseg.runs.content import Knowing, changes_since
from attnseg.runs.folder import RunFolder
from attnseg.runs.identity import (
    content_unknown,
    defining_part,
    differences,
    recorded_ids,
    run_ids,
    same_run,
    without_places,
)
from attnseg.runs.ledger import read_ledger


def restarted() -> bool:
    """Whether torchrun started this process again after one of its group fell."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")) > 0


class DataOfRun(Knowing, Protocol):
    """What resuming asks of a data module."""

    @property
    def fingerprint(self) -> str:
        """Of which cases there are: names, patients, splits."""
        ...


def adopts(record: Mapping[str, Any], data: DataOfRun, place: Path) -> bool:
    """Whether this run was recorded before data were recorded by content; then it is taken over.

    Args:
        record: status.json, or a checkpoint's, with its data record.
        data: today's.
        place: what the record is of.

    Raises:
        ConfigError: it is at least known to be of other cases.
    """
    if not content_unknown(recorded_ids(record)):
        return False
    known = record.get("data")
    theirs = known.get("fingerprint") if isinstance(known, Mapping) else None
    if theirs not in (None, data.fingerprint):
        raise ConfigError(
            f"{place} is of a run on other cases than those in data.root; choose another run.dir "
            "or run.name, or resume=none to start afresh there"
        )
    return True


def refuse_other_code(
    config: TrainConfig, then: object, now: Mapping[str, Any], place: Path
) -> list[str]:
    """Refuse to go on under changed code, unless `resume_code=changed` allows it.

    Args:
        config: of this command.
        then: the code that is recorded; None where an older attnseg recorded none.
        now: from `code_of`.
        place: what the record is of.

    Returns:
        The files that have changed.

    Raises:
        ConfigError: names them.
    """
    changed = changed_files(then, now) if isinstance(then, dict) else []
    if changed and config.resume_code == "same":
        raise ConfigError(
            f"{place}: its code has changed since: {listed(changed)}. What would come of it now is "
            "neither the old code's run nor the new one's: undo the change; or allow it by "
            "resume_code=changed, which is recorded; or train anew (resume=none, or another "
            "run.dir)"
        )
    return changed


@dataclass(frozen=True)
class ResumePoint:
    """A checkpoint that this run goes on from."""

    path: Path
    record: dict[str, Any]  # what attnseg keeps in it: code, threads, patients, ...
    step: int
    global_batch_size: int  # cases of a step


def refuse_other_processes(config: TrainConfig, point: ResumePoint, processes: int) -> None:
    """Refuse another number of processes, on which a step would be of other cases.

    Raises:
        ConfigError: names both numbers, and what would keep the steps.
    """
    each, theirs = config.data.batch_size, point.global_batch_size
    if theirs == each * processes:
        return
    count = theirs // each
    then, now = (f"{n} process{'es' * (n != 1)}" for n in (count, processes))
    raise ConfigError(
        f"{point.path} is of {then} with data.batch_size={each}, {theirs} cases a step; on {now} a "
        f"step would be of {each * processes}, which is another run: go on with {then} "
        "(trainer.devices), or, from an epoch's end, make it a run of its own by fork=, where "
        f"data.batch_size={theirs / processes:g} would keep the steps"
    )


def resume_point(config: TrainConfig, folder: RunFolder, data: DataOfRun) -> ResumePoint | None:
    """The checkpoint to go on from, or None for a fresh start.

    Raises:
        ConfigError: the checkpoint is of a run that another configuration defines (every key
            that differs is listed), of other data (what has changed is named), or past
            `trainer.max_epochs`; or there is none, and beginning anew would delete what is of
            value.
        CheckpointError: `resume` names none, or one that cannot be read.
    """
    wanted = config.resume
    if wanted == "none":
        return None
    if wanted == "auto":
        if not folder.last.is_file():
            refuse_to_begin_over(folder)
            return None
        path = folder.last
    elif config.fork or config.warmstart:
        raise ConfigError(
            f"resume={wanted} with fork or warmstart: give one of them (what began by a fork or a "
            "warm start is resumed by resume=auto)"
        )
    else:
        path = newest_checkpoint(wanted, "resume")
    return resume_at(path, config, data)


def resume_at(path: Path, config: TrainConfig, data: DataOfRun) -> ResumePoint:
    """This checkpoint, which must be of the same run.

    Raises:
        ConfigError, CheckpointError: as `resume_point`.
    """
    content = training_checkpoint(path, "resume", config)
    record = content[KEY]
    if not same_run(recorded_ids(record), run_ids(config)):
        of_data = changes_since(record.get("data"), home_of(path).content, config, data)
        lines = [*changes(config, record), *(f"data: {line}" for line in of_data)]
        raise ConfigError(
            "\n".join(
                [
                    f"cannot resume {path}: it is of another run. What defines the run differs "
                    "(checkpoint -> this command):",
                    *(f"  - {line}" for line in lines),
                    f"give the same values, fork={path} to go on from it under the changed ones, "
                    "another run.dir, or resume=none to start afresh",
                ]
            )
        )
    adopts(record, data, path)
    _refuse_done(config, content, path)
    return ResumePoint(
        path, record, int(content["global_step"]), _loader(content)["global_batch_size"]
    )


def refuse_to_begin_over(folder: RunFolder) -> None:
    """Refuse to delete, unasked, what nothing can go on from.

    A run that was stopped before its first epoch was saved begins anew by itself: the row and
    the best.ckpt of that epoch come again as they were.

    Raises:
        ConfigError: there is a checkpoint, or a row of the ledger.
    """
    if folder.last.is_file():
        raise ConfigError(
            f"{folder.path}: another process has trained this run since this one began; give the "
            "same command again to go on from there"
        )
    rows, status = read_ledger(folder.ledger), folder.read_status()
    others = sorted(path.name for path in folder.last.parent.glob("*.ckpt") if path != folder.best)
    has_best = folder.best.is_file()
    in_first = "state" in status and "epoch" not in status and len(rows) <= 1 and not others
    if in_first and (rows or not has_best):
        return
    found = [f"checkpoints/{name}" for name in [*(["best.ckpt"] if has_best else []), *others]]
    found += [f"metrics.csv ({len(rows)} epochs)"] if rows else []
    if found:
        best = f"; resume={folder.best} goes on from the best epoch" if has_best else ""
        raise ConfigError(
            f"{folder.path}: there is no checkpoints/last.ckpt to go on from, and a new beginning "
            f"would delete {', '.join(found)}: resume=none does that{best}; or choose another "
            "run.dir"
        )


def _refuse_done(config: TrainConfig, content: dict[str, Any], path: Path) -> None:
    """Refuse a `trainer.max_epochs` that the checkpoint is past; Lightning would, once begun."""
    most = config.trainer.max_epochs
    done, inside = position(content)
    if most is not None and done + inside > most:
        raise ConfigError(
            f"trainer.max_epochs={most}: {path} is already in epoch {done + inside}; give a "
            "larger number, or leave it out"
        )


def position(content: dict[str, Any]) -> tuple[int, bool]:
    """How many epochs are complete in a training checkpoint, and whether it is inside the next."""
    inside = bool(_loader(content)["batches"])
    return int(content["epoch"]) + (0 if inside else 1), inside


def saved_so_far(folder: RunFolder) -> str:
    """In a sentence, which checkpoints a run that has failed has left."""
    told = []
    for path in (folder.last, folder.best):
        try:
            done, inside = position(read_checkpoint(path))
        except (CheckpointError, KeyError, IndexError, TypeError):
            continue
        place = f"from inside epoch {done + 1}" if inside else f"of epoch {done}"
        told.append(f"{path.name} ({place})")
    if not told:
        return "No checkpoint had been written."
    verb = "is" if len(told) == 1 else "are"
    return f"{' and '.join(told)} {verb} from before it."


def _loader(content: dict[str, Any]) -> dict[str, int]:
    """The state of the training loader."""
    return dict(content["loops"]["fit_loop"]["state_dict"]["combined_loader"][0])


def newest_checkpoint(spec: str, key: str) -> Path:
    """The file that a run folder (its last.ckpt) or a path means.

    Raises:
        CheckpointError: there is none.
    """
    last = RunFolder(Path(spec)).last
    return last if last.is_file() else find_checkpoint(spec, key)


def training_checkpoint(path: Path, key: str, config: TrainConfig) -> dict[str, Any]:
    """Read a checkpoint that training can go on from.

    Raises:
        CheckpointError: it cannot be read, its weights are not finite, or it names a network that
            this training does not trust.
        ConfigError: it holds no optimizer, or was not written by attnseg.
    """
    content = read_checkpoint(path, key)
    if not isinstance(content.get(KEY), dict) or "optimizer_states" not in content:
        raise ConfigError(
            f"{key}: {path} is no checkpoint of attnseg's training; give a run folder or its "
            "last.ckpt (warmstart= takes weights alone)"
        )
    refuse_untrusted(content[KEY].get("config"), trust_of(config), path)
    if broken := broken_state(content):
        raise diverged(path, broken)
    return content


def changes(config: TrainConfig, record: dict[str, Any]) -> list[str]:
    """Key by key, in what this configuration differs from a checkpoint's: `key: old -> new`."""
    theirs = defining_part(validate(record["config"], TrainConfig))
    return without_places(differences(defining_part(config), theirs), recorded_ids(record))


def home_of(checkpoint: Path) -> RunFolder:
    """The run folder a checkpoint lies in."""
    parent = checkpoint.parent
    return RunFolder(parent.parent if parent.name == "checkpoints" else parent)


def adopt(start: Path, folder: RunFolder) -> None:
    """Take over what another folder knows of the run: the checkpoints and the ledger.

    Without them a run that goes on elsewhere would lack its first epochs, and its best.ckpt.
    """
    home = home_of(start)
    if home.path.resolve() == folder.path.resolve():
        return
    pairs = ((start, folder.last), (home.best, folder.best), (home.ledger, folder.ledger))
    for source, target in pairs:
        if source.is_file():
            copy_atomically(source, target)


def copy_atomically(source: Path, target: Path) -> None:
    """Copy a file so that the target is never half written."""
    write_atomically(target, partial(_pour, source))


def _pour(source: Path, stream: IO[bytes]) -> None:
    with source.open("rb") as content:
        shutil.copyfileobj(content, stream)
