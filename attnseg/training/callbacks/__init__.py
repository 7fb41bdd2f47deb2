"""What watches a training run; `build_callbacks` puts a run's together in the right order."""

from __future__ import annotations

from pytorch_lightning import Callback
from pytorch_lightning.callbacks import EMAWeightAveraging

from attnseg.config import OptunaSweepConfig, TrainConfig
from attnseg.runs.folder import RunFolder
from attnseg.training.callbacks.alignment_metrics import AlignmentMetricsCallback
from attnseg.training.callbacks.checkpointing import Checkpointing
from attnseg.training.callbacks.distributed import AnswerInTime, EvenValidation
from attnseg.training.callbacks.early_stopping import PhaseEarlyStopping
from attnseg.training.callbacks.interruption import Interruption, StopRequest
from attnseg.training.callbacks.ledger import LedgerWriter
from attnseg.training.callbacks.lost_folder import LostFolder
from attnseg.training.callbacks.non_finite import StopOnNonFinite
from attnseg.training.callbacks.overlays import Overlays
from attnseg.training.callbacks.phase_switching import PhaseSwitching
from attnseg.training.callbacks.progress import progress_bar
from attnseg.training.callbacks.pruning import Pruning
from attnseg.training.callbacks.tracking import Tracking


def build_callbacks(config: TrainConfig, folder: RunFolder, stop: StopRequest) -> list[Callback]:
    """The callbacks of a run, in the order in which their hooks must run.

    EMA swaps its weights in before validation, so it comes first; the ledger writes what the
    metrics callbacks gathered, and the checkpoint, last, includes what all others hold.
    """
    settings = config.callbacks
    callbacks: list[Callback] = []
    if settings.ema.enabled:
        # Buffers are counters and statistics: the newest are right, an average of them is not.
        callbacks.append(EMAWeightAveraging(decay=settings.ema.decay, use_buffers=False))
    callbacks += [AnswerInTime(config.run.timeout_s), EvenValidation(), LostFolder(folder)]
    callbacks.append(PhaseSwitching(config))
    callbacks.append(StopOnNonFinite(losses=settings.stop_on_non_finite))
    metrics = AlignmentMetricsCallback(settings.train_metrics_every_n_steps)
    callbacks += [
        metrics,
        Overlays(settings.overlays, folder),
        Tracking(config.logger, folder, metrics),
        LedgerWriter(folder),
    ]
    if settings.early_stopping.enabled:
        callbacks.append(PhaseEarlyStopping(settings.early_stopping))
    sweep = config.sweep
    if isinstance(sweep, OptunaSweepConfig) and sweep.trial and sweep.pruner.name != "none":
        callbacks.append(Pruning(sweep))
    if config.trainer.progress_bar:
        callbacks.append(progress_bar())
    return [*callbacks, Interruption(stop), Checkpointing(settings.checkpoint, folder)]
