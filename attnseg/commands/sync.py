"""`attnseg sync`: send offline runs to Weights & Biases."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from attnseg.commands.help import command_help, show, wants_help
from attnseg.common.errors import FAILED, ConfigError
from attnseg.config import SyncConfig, validate
from attnseg.config.compose import compose
from attnseg.config.grammar import words_and_overrides

if TYPE_CHECKING:
    from attnseg.training.loggers.sync import Candidate

OVERRIDES = (
    ("runs/mine runs/other", "run folders, or folders of runs; default: root"),
    ("root=runs", "send every run with logger=wandb below it"),
    ("dry_run=true", "say what would be sent, and send nothing"),
    ("force=true", "also what is marked as sent (W&B still gets every epoch once)"),
    ("timeout_s=600", "how long one run's last upload may take, in seconds"),
    ("project=attnseg entity=TEAM", "elsewhere than the runs' own logger.project and entity"),
)


def main(argv: Sequence[str]) -> int:
    """Send each run as one whole W&B run. Returns 0, or 1 where one could not be sent."""
    arguments = list(argv)
    if wants_help(arguments):
        purpose = "send offline runs to Weights & Biases, each as one whole run"
        return show(command_help("sync [PATH ...]", purpose, (), OVERRIDES))
    settings = configure(arguments)
    from attnseg.training.loggers.sync import candidates

    runs = candidates(settings)
    for run in runs:
        if run.verdict != "send":
            print(f"{run.folder.path}: {run.note}")
    waiting = [run for run in runs if run.verdict == "send"]
    broken = sum(run.verdict == "unreadable" for run in runs)
    if not waiting:
        print("nothing to send")
    elif settings.dry_run:
        for run in waiting:
            print(f"{run.folder.path}: would be sent")
    else:
        broken += _send_all(waiting, settings) if _server_answers(waiting) else len(waiting)
    return FAILED if broken else 0


def configure(arguments: Sequence[str]) -> SyncConfig:
    """Paths stand for themselves; everything else is Hydra's.

    Raises:
        ConfigError: every wrong key and value at once.
    """
    paths, overrides = words_and_overrides(arguments)
    plain = compose("sync", overrides, SyncConfig)
    given = plain.get("paths")
    return validate(
        {**plain, "paths": [*given, *paths] if isinstance(given, list) else given}, SyncConfig
    )


def _server_answers(waiting: Sequence[Candidate]) -> bool:
    """Whether anything can be sent now; says why not, once.

    Raises:
        ConfigError: no key is set.
    """
    from attnseg.training.loggers.wandb_run import has_key, server, unreachable

    if not has_key():
        raise ConfigError(
            "no key of Weights & Biases is set: run `wandb login`, or set WANDB_API_KEY; "
            f"runs waiting: {len(waiting)}"
        )
    config = waiting[0].config
    assert config is not None
    reason = unreachable(server(), config.logger.init_timeout_s)
    if reason:
        print(
            f"attnseg sync: {reason}; try again later, or set WANDB_BASE_URL if W&B is elsewhere; "
            f"runs waiting: {len(waiting)}",
            file=sys.stderr,
        )
    return reason is None


def _send_all(waiting: Sequence[Candidate], settings: SyncConfig) -> int:
    """Send one after the other, telling how far it is; returns how many failed."""
    from attnseg.training.loggers.sync import SendingFailed, send

    urls, failed = [], 0
    for number, run in enumerate(waiting, start=1):
        head = f"[{number}/{len(waiting)}] {run.folder.path}"
        print(f"{head} ...", flush=True)
        try:
            url, epochs = send(run, settings)
        except SendingFailed as error:
            failed += 1
            print(f"{head}: not sent: {error}", file=sys.stderr, flush=True)
        else:
            urls.append(url)
            print(f"{head}: {epochs} epochs: {url}", flush=True)
    places = sorted({url.rsplit("/runs/", 1)[0] for url in urls})
    if urls:
        print(f"runs sent: {len(urls)}, at {', '.join(places)}")
    if failed:
        print(f"runs not sent: {failed}; the same command tries them again", file=sys.stderr)
    return failed
