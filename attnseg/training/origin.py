"""Where a run's first weights come from: `fork=` and `warmstart=`.

A fork goes on from a checkpoint under a changed configuration: weights, optimizer, epoch and all
other state are the parent's. A warm start takes the weights alone and begins at epoch one. Both
are runs of their own, so what they began from is part of their identity: the digest of the file.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from torch import nn

from attnseg.build import build_schedule
from attnseg.common.console import tell
from attnseg.common.errors import CheckpointError, ConfigError
from attnseg.config import TrainConfig
from attnseg.config.trust import trust_of
from attnseg.runs.archive import KEY
from attnseg.runs.checkpoints import (
    find_checkpoint,
    load_checkpoints,
    read_checkpoint,
    save_checkpoint,
)
from attnseg.runs.code import changed_files
from attnseg.runs.content import changes_since
from attnseg.runs.folder import RunFolder
from attnseg.runs.identity import newest, run_ids
from attnseg.runs.ledger import read_ledger, write_row
from attnseg.runs.recorded import recorded
from attnseg.training.record import MadeOf
from attnseg.training.resume import (
    DataOfRun,
    changes,
    copy_atomically,
    home_of,
    newest_checkpoint,
    position,
    training_checkpoint,
)

_CONTINUED = ("model", "attention", "optim", "schedule.adaptive")
"""What the parent's optimizer and weights are made for; a fork cannot change it."""

_NOT_CONTINUED = ("optim.lr", "optim.gradient_clip_norm", "optim.fused")
"""Of it what is no state: rates (their factors and their schedule, too) are set anew."""


def with_origin(config: TrainConfig) -> TrainConfig:
    """The configuration with `origin` filled in, if it has a `fork` or a `warmstart`.

    A folder that already holds this run keeps the origin it began from: the parent may have
    gone on, or be gone, since.

    Raises:
        ConfigError: both are given.
        CheckpointError: there is no such checkpoint.
    """
    given = {name: getattr(config, name) for name in ("fork", "warmstart")}
    given = {name: spec for name, spec in given.items() if spec is not None}
    if not given or config.origin is not None:
        return config
    if len(given) > 1:
        raise ConfigError("fork and warmstart: give one of them; a fork brings its weights along")
    [(kind, spec)] = given.items()
    return config.model_copy(update={"origin": _known(config, kind) or _digest(kind, spec)})


def _known(config: TrainConfig, kind: str) -> str | None:
    """The origin that config.yaml of the run's folder records for the same spec."""
    if config.run.dir is None:
        return None
    try:
        record = yaml.safe_load(RunFolder(Path(config.run.dir)).config.read_text())
    except (OSError, yaml.YAMLError):
        return None
    same = isinstance(record, dict) and record.get(kind) == getattr(config, kind)
    return record.get("origin") if same else None


def _digest(kind: str, spec: str) -> str:
    digest = hashlib.sha256()
    with _source(kind, spec).open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return f"{kind}:{digest.hexdigest()[:16]}"


def warm_start(config: TrainConfig, model: nn.Module) -> dict[str, Any]:
    """Load the weights of `warmstart` whose names and shapes fit; the rest starts as it is.

    Of an ensemble these are the first member's.

    Returns:
        A record: from where (of how many members the first), how many tensors were taken, and
        which parts start afresh.

    Raises:
        CheckpointError: it cannot be read, or no tensor fits.
    """
    assert config.warmstart is not None
    source, *others = load_checkpoints(config.warmstart, "warmstart", trust=trust_of(config))
    ours = model.state_dict()
    fitting = {
        name: value
        for name, value in source.weights.items()
        if name in ours and ours[name].shape == value.shape
    }
    if not fitting:
        raise CheckpointError(
            f"warmstart={config.warmstart}: none of its {len(source.weights)} tensors fits this "
            f"model ({config.model.name}; that one is {source.config.model.name})"
        )
    model.load_state_dict({**ours, **fitting})
    fresh = sorted({name.rsplit(".", 1)[0] for name in set(ours) - set(fitting)})
    return {
        "from": str(source.path),
        "id": source.identity,
        "members": 1 + len(others),
        "taken": len(fitting),
        "of": len(ours),
        "fresh": fresh,
    }


@dataclass(frozen=True)
class Parent:
    """A checkpoint that a fork can go on from, read and checked."""

    path: Path
    content: dict[str, Any]
    changed: list[str]  # every key that differs, "key: there -> here"
    data: list[str]  # what of the data differs, a line a kind
    done: int  # complete epochs


def read_parent(config: TrainConfig, data: DataOfRun) -> Parent:
    """Read the checkpoint of `fork`; nothing is written.

    Args:
        config: of the new run, identified.
        data: of the new run.

    Raises:
        CheckpointError: it cannot be read.
        ConfigError: the checkpoint cannot go on under this configuration.
    """
    assert config.fork is not None
    path = _source("fork", config.fork)
    content = training_checkpoint(path, "fork", config)
    changed = [line for line in changes(config, content[KEY]) if not line.startswith("origin:")]
    record = content[KEY].get("data") or {}
    of_data = changes_since(record, home_of(path).content, config, data)
    if record.get("digest") is None and record.get("fingerprint") not in (None, data.fingerprint):
        of_data = ["which cases there are"]
    if of_data:
        changed.append(f"data.content: {record.get('digest')} -> {config.data_digest}")
    done = _refuse_what_cannot_go_on(config, content, changed, path)
    return Parent(path, content, changed, of_data, done)


def fork(
    parent: Parent,
    config: TrainConfig,
    folder: RunFolder,
    made: MadeOf,
) -> dict[str, Any]:
    """Make the parent's checkpoint this folder's last.ckpt, as if this run had written it.

    From then on the run is resumed like any other. The parent's ledger comes along up to the
    epoch of the fork, and its best.ckpt if it is the best so far.

    Args:
        parent: from `read_parent`; its content is used up.
        config: of the new run, its origin filled in.
        folder: of the new run.
        made: what the new run is made of, the parent's patients included.

    Returns:
        A record: from where, every key that differs, and every file of the code that does.
    """
    content, record = parent.content, parent.content[KEY]
    code = record.get("code")
    changed_code = changed_files(code, made.code) if isinstance(code, dict) else []
    _forget_what_is_measured_otherwise(content, parent.changed)
    if not config.callbacks.ema.enabled and "current_model_state" in content:
        content["state_dict"] = dict(content.pop("current_model_state"))  # not the average
        content.pop("averaging_state", None)
    content[KEY] = record | {
        "config": recorded(config),
        "identity": newest(run_ids(config)),
        "ids": run_ids(config),
        **made.entries(),
    }
    home = home_of(parent.path)
    _take_best(content, home, folder)
    for row in read_ledger(home.ledger):
        if int(row["epoch"]) <= parent.done:
            write_row(folder.ledger, row)
    save_checkpoint(content, folder.last)
    return {
        "from": str(parent.path),
        "id": record.get("identity"),
        "epoch": parent.done,
        "step": int(content["global_step"]),
        "changed": parent.changed,
        "changed_code": changed_code,
    }


def _refuse_what_cannot_go_on(
    config: TrainConfig, content: dict[str, Any], changed: Sequence[str], path: Path
) -> int:
    """Check that weights, optimizer and position fit; returns how many epochs are complete."""
    fixed = [
        line
        for line in changed
        if line.startswith(_CONTINUED) and not line.startswith(_NOT_CONTINUED)
    ]
    done, inside = position(content)
    if inside:
        fixed += [line for line in changed if line.startswith(("data.", "trainer.accumulate"))]
    if fixed:
        where = " in the middle of an epoch" if inside else ""
        raise ConfigError(
            "\n".join(
                [
                    f"fork={path}: weights and optimizer go on{where}, so these cannot change "
                    "(checkpoint -> this command):",
                    *(f"  - {line}" for line in fixed),
                    "keep them, or take the weights alone with warmstart=",
                ]
            )
        )
    total = build_schedule(config.schedule).total_epochs
    if done >= total:
        raise ConfigError(
            f"fork={path}: {done} epochs are done there, and this schedule has {total}: nothing "
            "is left to train; raise schedule.total_epochs, or use warmstart="
        )
    return done


def _forget_what_is_measured_otherwise(content: dict[str, Any], changed: Sequence[str]) -> None:
    """A best value, or a count of waiting, means nothing under another monitor or schedule."""
    for state, keys in (
        ("Checkpointing", ("callbacks.checkpoint.monitor", "callbacks.checkpoint.mode", "data.")),
        ("PhaseEarlyStopping", ("callbacks.early_stopping", "schedule", "data.")),
    ):
        if any(line.startswith(keys) for line in changed):
            content["callbacks"].pop(state, None)


def _take_best(content: dict[str, Any], home: RunFolder, folder: RunFolder) -> None:
    """Take the parent's best.ckpt along, or let this run find a best of its own."""
    known = content["callbacks"].get("Checkpointing")
    if known is None:
        return
    try:
        at = read_checkpoint(home.best, "fork")["epoch"] + 1 if home.best.is_file() else None
    except CheckpointError as error:
        tell(f"note: the best checkpoint so far is not taken along: {error}")
        at = None
    if at is not None and at == known["best_epoch"]:
        copy_atomically(home.best, folder.best)
    else:
        content["callbacks"].pop("Checkpointing")


def _source(kind: str, spec: str) -> Path:
    """A fork goes on where the parent is (last.ckpt); a warm start takes its best."""
    return newest_checkpoint(spec, kind) if kind == "fork" else find_checkpoint(spec, kind)
