"""What watches a training run; `build_callbacks` puts a run's together in the right order."""

from __future__ import annotations

from collections.abc import Sequence

from pytorch_lightning import Callback
from pytorch_lightning.callbacks import EMAWeightAveraging

from attnseg.build import build_metrics
from attnseg.config import OptunaSweepConfig, TrainConfig
from attnseg.config.measures import refuse_wrong_end
from attnseg.runs.folder import RunFolder
from attnseg.training.callbacks.alignment_metrics import AlignmentMetricsCallback
from attnseg.training.callbacks.checkpointing import Checkpointing
from attnseg.training.callbacks.distributed import AnswerInTime, EvenValidation
from attnseg.training.callbacks.early_stopping import PhaseEarlyStopping
from attnseg.training.callbacks.interruption import Interruption, StopRequest
from attnseg.training.callbacks.ledger import LedgerWriter
from attnseg.training.callbacks.lost_folder import LostFolder
from attnseg.training.callbacks.non_finite import StopOnNonFinite
from attnseg.training.callbacks.others import PublishedMetrics, other_callback
from attnseg.training.callbacks.overlays import Overlays
from attnseg.training.callbacks.phase_switching import PhaseSwitching
from attnseg.training.callbacks.progress import progress_bar
from attnseg.training.callbacks.pruning import Pruning
from attnseg.training.callbacks.tracking import Tracking
from attnseg.training.preflight import monitors_of


def build_callbacks(
    config: TrainConfig,
    folder: RunFolder | None = None,
    stop: StopRequest | None = None,
    given: Sequence[Callback] = (),
) -> list[Callback]:
    """The callbacks of a run, in the order in which their hooks must run.

    EMA swaps its weights in before validation, so it comes first; the ledger writes what the
    metrics callbacks gathered, and the checkpoint, last, includes what all others hold; of
    several callbacks that write checkpoints Lightning keeps the order, so ours stays the last.

    Args:
        config: of the run.
        folder: the run's. Without one, as under a Trainer of one's own, what is written there is
            left to that Trainer: checkpoints, pictures, the ledger's file; so is the progress bar.
        stop: what can stop the run; None: Lightning's own handling of signals.
        given: further ones, which come after ours and before what saves.
    """
    settings = config.callbacks
    callbacks: list[Callback] = []
    if settings.ema.enabled:
        # Buffers are counters and statistics: the newest are right, an average of them is not.
        callbacks.append(EMAWeightAveraging(decay=settings.ema.decay, use_buffers=False))
    callbacks += [AnswerInTime(config.run.timeout_s), EvenValidation()]
    if folder is not None:
        callbacks.append(LostFolder(folder))
    callbacks.append(PhaseSwitching(config))
    callbacks.append(StopOnNonFinite(losses=settings.stop_on_non_finite))
    named = build_metrics(config.metrics)
    refuse_wrong_end(monitors_of(config), named.record())  # of those whose source does not tell
    metrics = AlignmentMetricsCallback(settings.train_metrics_every_n_steps, named, folder)
    callbacks.append(metrics)
    if folder is not None:
        callbacks.append(Overlays(settings.overlays, folder))
        callbacks.append(Tracking(config.logger, folder, metrics))
    callbacks.append(LedgerWriter(folder))
    if settings.early_stopping.enabled:
        callbacks.append(PhaseEarlyStopping(settings.early_stopping))
    callbacks.append(PublishedMetrics())
    others = [other_callback(name, chosen, folder) for name, chosen in settings.others.items()]
    if folder is None:
        return callbacks + others
    sweep = config.sweep
    if isinstance(sweep, OptunaSweepConfig) and sweep.trial and sweep.pruner.name != "none":
        callbacks.append(Pruning(sweep))
    if config.trainer.progress_bar:
        callbacks.append(progress_bar())
    callbacks += [*others, *given]
    if stop is not None:
        limits = {k: v for k, v in config.trainer.others.items() if k in ("max_steps", "max_time")}
        callbacks.append(Interruption(stop, **limits))
    return [*callbacks, Checkpointing(settings.checkpoint, folder)]
