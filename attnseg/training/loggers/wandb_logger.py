"""Weights & Biases while training: one W&B run a training run, and never in its way."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import WandbLogger

from attnseg.config import TrainConfig
from attnseg.reports.overlays import OverlayCase
from attnseg.runs.folder import RunFolder
from attnseg.runs.identity import run_name
from attnseg.training.loggers.marks import mark_of, write_sent
from attnseg.training.loggers.media import MediaCase, save_cases
from attnseg.training.loggers.resilience import NeverStops, NoExperiment, on_rank_zero
from attnseg.training.loggers.sender import Sender, finish
from attnseg.training.loggers.snapshot import commit, take_snapshot
from attnseg.training.loggers.wandb_run import (
    Mode,
    has_key,
    open_run,
    server,
    unreachable,
    wandb_id,
)


class WandbRunLogger(NeverStops, WandbLogger):
    """Lightning's W&B logger, with a run that is opened, filled and closed our way.

    Offline where no key is set or no server answers. Whatever fails gives one warning; what
    W&B did not get, `attnseg sync` sends later from the run folder.

    Args:
        config: the run's.
        folder: the run's; W&B's own files go to `wandb/` in it.
    """

    title = "W&B"

    def __init__(self, config: TrainConfig, folder: RunFolder) -> None:
        super().__init__(
            name=run_name(config),
            save_dir=folder.path,
            id=wandb_id(config, folder),
            project=config.logger.project,
        )
        self.config = config
        self.folder = folder
        self.remedy = f"the ledger is whole, `attnseg sync {folder.path}` sends it later"
        self.state = "finished"
        self.mode: Mode = "offline"
        self._patience = config.logger.init_timeout_s
        self._sender: Sender | None = None
        self._none = NoExperiment()

    @property
    def experiment(self) -> Any:
        """The `wandb.Run`, opened at the first call; something that does nothing if W&B fails."""
        if not on_rank_zero() or self.failed:
            return self._none
        if self._experiment is None:
            with self.guarded():
                self._open()
        return self._experiment or self._none

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """An epoch's row where `epoch` is among the metrics, else the values of a step."""
        with self.guarded():
            if (sender := self._ready()) is None:
                return
            given = dict(metrics)
            epoch = given.pop("epoch", None)
            given.pop("phase", None)
            if epoch is None:
                sender.step(step or 0, given)
            else:
                sender.epoch(int(epoch), step or 0, given)

    def log_overlays(
        self, cases: Sequence[OverlayCase], picture: Path, epoch: int, step: int
    ) -> None:
        """Show cases with their mask layers, and keep the arrays for a later sync."""
        with self.guarded():
            shown = [MediaCase.of(case) for case in cases]
            save_cases(picture.with_suffix(".npz"), shown)
            if (sender := self._ready()) is not None:
                sender.overlays(epoch, step, shown)

    def ended(self, state: str, reason: str) -> None:
        """Learn how the training ended, before `finalize`.

        Args:
            state: failed or interrupted.
            reason: for the alert, where one is wanted.
        """
        self.state = state
        if state == "failed" and self.config.logger.alert_on_failure:
            with self.guarded():
                if self._ready() is not None:
                    self._alert(reason)

    def finalize(self, status: str = "success") -> None:
        """Send the rest, and end the W&B run as the training has ended."""
        if status != "success" and self.state == "finished":
            self.state = "failed"
        self.close()

    def close(self) -> None:
        """End the W&B run, if one is open; waits for uploads as long as it is allowed to."""
        run, self._experiment = self._experiment, None
        if run is None:
            return
        sender, self._sender = self._sender, None
        with self.guarded():
            # Artifacts ask the server and wait: some 20 s each, where it is gone.
            reason = self.mode == "online" and unreachable(server(), self._patience)
            if reason:
                self.give_up(ConnectionError(reason))
            if sender is not None and not self.failed:
                sender.conclude(finished=self.state == "finished")
        with self.guarded():
            finish(run, self.state)
            if self.mode == "online" and not self.failed:
                write_sent(self.folder, mark_of(self.folder, run.id, run.url, self.state))

    def _ready(self) -> Sender | None:
        """The sender, unless W&B has failed."""
        return self._sender if self.experiment is not self._none and not self.failed else None

    def _open(self) -> None:
        """Online where that works, else offline; both failing is the caller's to catch."""
        settings = self.config.logger
        about: dict[str, Any] = {
            "config": self.config,
            "run_id": wandb_id(self.config, self.folder),
            "folder": self.folder,
            "git": take_snapshot(self.folder) if settings.save_code else commit(),
        }
        self.mode, note = self._choose_mode()
        try:
            run = open_run(**about, mode=self.mode)
        except Exception as error:
            if self.mode == "offline":
                raise
            self.mode, note = "offline", f"no run could be opened there ({error})"
            run = open_run(**about, mode="offline")
        self._experiment = run
        self._sender = Sender(run, self.config, self.folder)
        if self.mode == "online":
            self._sender.catch_up()
            print(f"W&B: {run.url}", flush=True)
        else:
            self._say_offline(note)

    def _choose_mode(self) -> tuple[Mode, str]:
        """Online or offline, and why offline where the user may not expect it."""
        wanted = self.config.logger.offline
        by_environment = os.environ.get("WANDB_MODE")
        if wanted or (wanted is None and by_environment in ("offline", "dryrun")):
            return "offline", ""
        if not has_key():
            return "offline", "no key is set"
        reason = unreachable(server(), self._patience)
        return ("offline", reason) if reason else ("online", "")

    def _say_offline(self, note: str) -> None:
        why = f" ({next(iter(note.splitlines()))})" if note else ""
        words = f"offline{why}; `attnseg sync {self.folder.path}` sends the run later"
        print(f"W&B: {words}", flush=True)

    def _alert(self, reason: str) -> None:
        text = f"{reason}\n{self.folder.path}"
        self.experiment.alert(
            title=f"{run_name(self.config)} failed"[:64], text=text, level="ERROR"
        )

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """Nothing: the configuration went along when the run was opened."""
