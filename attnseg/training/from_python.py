"""Training from Python: a run as `attnseg train` makes it, with its folder and its state."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from attnseg.common.errors import FAILED, USER_MISTAKE, ConfigError
from attnseg.config import OptunaSweepConfig, TrainConfig
from attnseg.runs.folder import folder_of
from attnseg.training.identified import identified
from attnseg.training.launch import launch

if TYPE_CHECKING:
    from pytorch_lightning import Callback
    from pytorch_lightning.loggers import Logger


@dataclass(frozen=True)
class TrainedRun:
    """What became of a run.

    Attributes:
        folder: with config.yaml, metrics.csv, checkpoints/, report/; `attnseg.load(run.folder)`.
        state: finished, interrupted (the same call goes on) or pruned.
        reason: in words.
    """

    folder: Path
    state: str
    reason: str


def fit(
    config: TrainConfig, *, callbacks: Sequence[Callback] = (), loggers: Sequence[Logger] = ()
) -> TrainedRun:
    """Train a run, or go on where it stopped; a finished one is left as it is (`resume`).

    Args:
        config: from `attnseg.compose`.
        callbacks: Lightning's, after attnseg's own and before what saves; what their state_dict
            holds is in the checkpoints.
        loggers: Lightning's, beside those that the configuration names; they get what the ledger
            gets.

    Raises:
        UserError: the configuration, the data or a checkpoint cannot be used.
        RuntimeError: the run failed; what failed is in the message, more in its folder.
    """
    if isinstance(config.sweep, OptunaSweepConfig) and config.sweep.trial is None:
        raise ConfigError("sweep=optuna makes many runs: attnseg train -m")
    config = identified(config)
    code = launch(config, callbacks, loggers)
    folder = folder_of(config)
    status = folder.read_status()
    reason = str(status.get("reason") or "")
    if code in (FAILED, USER_MISTAKE):
        raise RuntimeError(f"{folder.path}: the run failed: {reason or 'see what was printed'}")
    return TrainedRun(folder.path, str(status.get("state", "interrupted")), reason)
