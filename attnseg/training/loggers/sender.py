"""From a run's records to W&B's history: every epoch once, steps never falling."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from attnseg.build import build_schedule
from attnseg.config import TrainConfig
from attnseg.config.measures import recorded_in
from attnseg.runs.folder import RunFolder
from attnseg.runs.ledger import Row, read_ledger
from attnseg.training.loggers.definitions import define, summary_of
from attnseg.training.loggers.media import (
    MediaCase,
    cases_csv,
    epochs_with_pictures,
    evaluations_of,
    froc_table,
    load_cases,
    newest_cases,
    read_steps,
    steps_file,
    wandb_evaluation,
    wandb_images,
    wandb_table,
)
from attnseg.training.loggers.snapshot import code_folder


class Sender:
    """Sends what a W&B run does not have yet: the same code while training and afterwards.

    W&B's own step is the optimizer's step. A resumed run repeats epochs that were sent before;
    by the design of a run their values are the same, so the second time they are left out.

    Args:
        run: an open `wandb.Run`; what it has already is taken from it.
        config: the training run's.
        folder: the training run's.
    """

    def __init__(self, run: Any, config: TrainConfig, folder: RunFolder) -> None:
        self.run = run
        self.config = config
        self.folder = folder
        self.floor = int(run.starting_step)  # W&B would drop what comes before it
        self.last_epoch = int(run.summary.get("epoch") or 0)
        self.last_step = 0
        self._defined: set[str] = set()
        self._schedule = build_schedule(config.schedule)
        define(run, [])

    def epoch(self, epoch: int, step: int, values: Mapping[str, float]) -> None:
        """One epoch's row; nothing where W&B has it.

        Args:
            epoch: the first is 1.
            step: the optimizer's, at the epoch's end.
            values: the ledger's numbers by column.
        """
        if epoch <= self.last_epoch:
            return
        new = [key for key in values if key not in self._defined]
        define(self.run, new, self._recorded())
        self._defined.update(new)
        row = {key: value for key, value in values.items() if not math.isnan(value)}
        row |= {
            "epoch": epoch,
            "phase": self._schedule.phase(epoch - 1).index,
            "trainer/global_step": step,
        }
        self._log(row, step, commit=True)
        self.last_epoch = epoch

    def step(self, step: int, values: Mapping[str, float]) -> None:
        """The losses of one step; nothing where W&B is past it."""
        if step >= self.floor and step > self.last_step:
            self._log({**values, "trainer/global_step": step}, step)
            self.last_step = step

    def overlays(self, epoch: int, step: int, cases: Sequence[MediaCase]) -> None:
        """Pictures of an epoch, before its row."""
        if epoch > self.last_epoch:
            self._log(wandb_images(cases), step)

    def catch_up(self) -> None:
        """Send from the run's own records what W&B lacks."""
        rows = [
            row for row in read_ledger(self.folder.ledger) if int(row["epoch"]) > self.last_epoch
        ]
        pictures = epochs_with_pictures(self.folder)
        steps = read_steps(steps_file(self.folder))
        waiting = next(steps, None)
        for row in rows:
            epoch, end = int(row["epoch"]), int(row["step"])
            while waiting is not None and waiting[0] <= end:
                self.step(*waiting)
                waiting = next(steps, None)
            if epoch in pictures:
                self._send_picture(pictures[epoch], epoch, end)
            self.epoch(epoch, end, _numbers(row))
        while waiting is not None:  # of an epoch that has not ended yet
            self.step(*waiting)
            waiting = next(steps, None)

    def _send_picture(self, picture: Path, epoch: int, step: int) -> None:
        """With mask layers where their arrays were kept, else as it is drawn."""
        import wandb

        try:
            cases = load_cases(picture.with_suffix(".npz"))
        except (OSError, ValueError, KeyError):
            if epoch > self.last_epoch:
                self._log({"overlays/picture": wandb.Image(str(picture))}, step)
        else:
            self.overlays(epoch, step, cases)

    def conclude(self, *, finished: bool) -> None:
        """The table of cases, best and last values, and the artifacts that were asked for.

        Args:
            finished: whether the run is at its end; best.ckpt is sent only then.
        """
        import wandb

        if cases_csv(self.folder).is_file():
            # In the summary: it is of the run, not of a step, and takes up none.
            drawn = newest_cases(self.folder)
            self.run.summary.update({"cases": wandb_table(cases_csv(self.folder), drawn)})
        ledger = read_ledger(self.folder.ledger)
        rows = [_numbers(row) for row in ledger]
        self.run.summary.update(summary_of(rows, self._recorded()))
        best = self.folder.read_status().get("best")
        if best:
            self.run.summary.update({f"best/{key}": value for key, value in best.items()})
            self._at_best(ledger, str(best.get("epoch")))
        self.evaluations()
        settings = self.config.logger
        if settings.log_checkpoint == "best" and finished and self.folder.best.is_file():
            artifact = wandb.Artifact(f"model-{self.run.id}", "model", metadata=best or {})
            # Not copied into W&B's cache: a finished run's file stays as it is.
            artifact.add_file(str(self.folder.best), policy="immutable", skip_cache=True)
            self.run.log_artifact(artifact, aliases=["best"])
        if settings.save_code and code_folder(self.folder).is_dir():
            artifact = wandb.Artifact(f"code-{self.run.id}", "code")
            artifact.add_dir(str(code_folder(self.folder)), skip_cache=True, policy="immutable")
            self.run.log_artifact(artifact)
        if settings.log_data and self.folder.content.is_file():
            status = self.folder.read_status()
            name = f"{self.config.data.name}-{str(self.config.data_digest)[:8]}"
            artifact = wandb.Artifact(name, "dataset", metadata=status.get("data") or {})
            artifact.add_file(str(self.folder.content), policy="immutable", skip_cache=True)
            self.run.log_artifact(artifact)

    def evaluations(self) -> None:
        """Every evaluation that lies in the run folder, under `evaluate/<its folder>/`."""
        for results in evaluations_of(self.folder):
            self.run.summary.update(wandb_evaluation(results))

    def _at_best(self, ledger: Sequence[Row], epoch: str) -> None:
        """All that was measured in the epoch of best.ckpt, and its FROC curve."""
        for row in ledger:
            if row["epoch"] == epoch:
                values = _numbers(row)
                self.run.summary.update(
                    {f"at_best/{key}": value for key, value in values.items() if _measured(key)}
                )
                if (froc := froc_table(values)) is not None:
                    self.run.summary.update({"at_best/froc": froc})

    def _recorded(self) -> dict[str, Any]:
        return recorded_in([self.folder.read_status()])

    def _log(self, values: Mapping[str, Any], step: int, commit: bool | None = None) -> None:
        self.run.log(dict(values), step=max(step, self.floor), commit=commit)


def _numbers(row: Row) -> dict[str, float]:
    """A ledger's row without what says which row it is."""
    return {
        key: float(text)
        for key, text in row.items()
        if text and key not in ("epoch", "phase", "step")
    }


def _measured(key: str) -> bool:
    return key.startswith(("val/", "train/"))


def finish(run: Any, state: str) -> None:
    """End a W&B run as the training run has ended.

    Args:
        run: an open `wandb.Run`.
        state: finished, failed, or anything else for a run that will go on.

    Raises:
        Exception: W&B could not be given everything in the time that it may take.
    """
    if state not in ("finished", "failed"):
        run.mark_preempting()  # W&B then says "preempted", not "failed"
    run.finish(exit_code={"finished": 0, "failed": 1}.get(state, 75))
