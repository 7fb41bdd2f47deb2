"""Sending runs to W&B afterwards: each as one whole run, made from its own records.

An interrupted and resumed run leaves several offline pieces, each beginning at step 0; what the
run folder records (ledger, configuration, overlays, cases, losses of steps) is whole, so W&B's
run is made from that. System metrics and console output of the pieces are not sent.
"""

from __future__ import annotations

import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from attnseg.common.errors import ConfigError
from attnseg.config import SyncConfig, TrainConfig, validate
from attnseg.config.environment import from_environment
from attnseg.runs.folder import RunFolder
from attnseg.runs.gather import find_runs
from attnseg.runs.ledger import read_ledger
from attnseg.runs.records import looks_like_run
from attnseg.training.loggers.marks import is_sent, mark_of, read_sent, write_sent
from attnseg.training.loggers.media import wandb_evaluation
from attnseg.training.loggers.sender import Sender, finish
from attnseg.training.loggers.snapshot import commit, read_snapshot
from attnseg.training.loggers.wandb_run import has_key, open_run, server, unreachable, wandb_id


@dataclass(frozen=True)
class Candidate:
    """A run folder, and what is to become of it.

    Attributes:
        folder: the run's.
        config: as it was trained with; None where it cannot be read.
        verdict: send it; or why not: nothing in its ledger, all sent, sending itself right now,
            or its config.yaml cannot be read.
        note: the reason, in words; empty for `send`.
    """

    folder: RunFolder
    config: TrainConfig | None
    verdict: Literal["send", "empty", "sent", "busy", "unreadable"]
    note: str = ""


class SendingFailed(RuntimeError):
    """W&B did not take a run: no server, a wrong key, or too slow."""


def candidates(settings: SyncConfig) -> list[Candidate]:
    """The runs that `attnseg sync` is asked for, in order of their paths.

    A run folder that is named is taken whatever logger it had; in a folder of runs (or `root`)
    those with logger=wandb are.

    Raises:
        ConfigError: a path that holds no run; every such path is listed.
    """
    found: dict[Path, Candidate] = {}
    wrong = []
    places = [Path(path) for path in settings.paths] or [Path(settings.root)]
    for place in places:
        if is_run(place):
            found[place.resolve()] = _judge(RunFolder(place), settings)
            continue
        folders = [RunFolder(path) for path in find_runs(place) if is_run(path)]
        if not folders:
            wrong.append(str(place))
        for folder in folders:
            candidate = _judge(folder, settings)
            if candidate.config is None or candidate.config.logger.wandb:
                found[folder.path.resolve()] = candidate
    if wrong:
        key = "paths" if settings.paths else "root"
        raise ConfigError(f"{key}={', '.join(wrong)}: no run there (no status.json or metrics.csv)")
    return [found[path] for path in sorted(found)]


def is_run(path: Path) -> bool:
    """Whether a folder is that of a run that says how it was trained."""
    return looks_like_run(path) and RunFolder(path).config.is_file()


def send_evaluation(checkpoint: Path, results: Path) -> str:
    """Bring the W&B run of a training up to date, with an evaluation of it.

    Args:
        checkpoint: what was measured.
        results: the folder with metrics.json.

    Returns:
        Where it is; or why it was not sent, and what sends it later.
    """
    folder = RunFolder(checkpoint.resolve().parent.parent)
    if not is_run(folder.path):
        return f"{checkpoint} lies in no run folder: there is no W&B run of its training"
    later = f"attnseg sync {folder.path} sends it later"
    settings = SyncConfig(force=True)
    candidate = _judge(folder, settings)
    if candidate.config is None or candidate.verdict != "send":
        return f"not sent, {candidate.note}"
    if not has_key():
        return f"no key is set; {later}"
    if (reason := unreachable(server(), candidate.config.logger.init_timeout_s)) is not None:
        return f"{reason}; {later}"
    try:
        return send(candidate, settings, results)[0]
    except SendingFailed as error:
        return f"not sent ({error}); {later}"


def send(
    candidate: Candidate, settings: SyncConfig, results: Path | None = None
) -> tuple[str, int]:
    """Make one W&B run of a training run, or bring it up to date.

    Args:
        candidate: the run.
        settings: of the command.
        results: an evaluation beside those in the run folder.

    Returns:
        Its URL, and how many epochs W&B has of it.

    Raises:
        SendingFailed: W&B did not take it, or not all of it.
    """
    config, folder = candidate.config, candidate.folder
    assert config is not None, "only what can be read is sent"
    earlier = read_sent(folder)
    state = str(folder.read_status().get("state", "unknown"))
    with tempfile.TemporaryDirectory(prefix="attnseg-sync-") as place:
        try:
            run = open_run(
                config,
                earlier.id if earlier else wandb_id(config, folder),
                mode="online",
                folder=folder,
                directory=Path(place),
                git=read_snapshot(folder) or commit(),
                entity=settings.entity,
                project=settings.project,
                finish_timeout_s=settings.timeout_s,
            )
            try:
                sender = Sender(run, config, folder)
                sender.catch_up()
                sender.conclude(finished=state == "finished")
                if results is not None:
                    run.summary.update(wandb_evaluation(results))
                finish(run, state)
            except Exception:
                with suppress(Exception):  # does nothing where it has ended
                    run.finish(exit_code=1)
                raise
        except Exception as error:  # of W&B's many kinds
            reason = next(iter(str(error).splitlines()), type(error).__name__)
            raise SendingFailed(reason) from error
    mark = mark_of(folder, run.id, run.url, state)
    try:
        write_sent(folder, mark)
    except OSError as error:
        raise SendingFailed(f"it was sent, but cannot be marked as sent: {error}") from error
    return mark.url, mark.epoch


def _judge(folder: RunFolder, settings: SyncConfig) -> Candidate:
    """What is to become of a run folder."""
    import yaml

    try:
        plain = from_environment(yaml.safe_load(folder.config.read_text()))
        config = validate(plain, TrainConfig)
    except (ConfigError, OSError, ValueError, TypeError, RecursionError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        return Candidate(folder, None, "unreadable", f"config.yaml cannot be used: {reason}")
    if not read_ledger(folder.ledger):
        return Candidate(folder, config, "empty", "no epoch has ended yet")
    if _sends_itself(folder):
        return Candidate(folder, config, "busy", "is training, and sends itself")
    if is_sent(folder) and not settings.force:
        sent = read_sent(folder)
        return Candidate(folder, config, "sent", f"is there already: {sent.url if sent else ''}")
    return Candidate(folder, config, "send")


def _sends_itself(folder: RunFolder) -> bool:
    """Whether a process is training this run and has it open online."""
    latest = folder.path / "wandb" / "latest-run"
    offline = latest.resolve().name.startswith("offline-run-")
    return folder.is_held() and latest.exists() and not offline
