"""The LightningModule: thin. Networks, losses, schedules and metrics live in their own rooms."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import pytorch_lightning as pl
import torch
from pytorch_lightning.trainer.states import TrainerFn
from torch import Tensor

from attnseg import __version__
from attnseg.build import build_loss, build_model, build_schedule, build_weighting
from attnseg.common.errors import CheckpointError, NonFiniteError
from attnseg.common.finite import broken_state, some
from attnseg.common.processes import gather_from_ranks
from attnseg.common.seeding import derive_seed, seed_step
from attnseg.config import TrainConfig, validate
from attnseg.config.trust import refuse_untrusted, refuse_untrusted_parts
from attnseg.nn.output import AnyOutput, DeeplySupervisedOutput, DualPathwayOutput
from attnseg.runs.archive import KEY
from attnseg.runs.checkpoints import find_checkpoint, read_checkpoint
from attnseg.runs.identity import newest, run_ids
from attnseg.runs.recorded import recorded
from attnseg.training import own_trainer
from attnseg.training.optimizers import build_optimizer
from attnseg.training.record import Batch, MadeOf, StepRecord, TrainingRecord
from attnseg.training.resume import ResumePoint


class AttnSegModule(pl.LightningModule):
    """One model, its combined loss and its schedule.

    Args:
        config: the run's validated configuration. Everything here follows from it, so a
            checkpoint needs no pickled objects.
        load_weights: False leaves files of initial weights alone, for a network that a checkpoint
            will fill.
    """

    def __init__(self, config: TrainConfig, *, load_weights: bool = True) -> None:
        super().__init__()
        self.config = config
        torch.manual_seed(derive_seed("weights", config.seed))
        self.model = build_model(config.model, config.attention, load_weights=load_weights)
        self.loss = build_loss(config.loss)
        self.schedule = build_schedule(config.schedule)
        self.adaptive = build_weighting(config.schedule.adaptive, self.loss.names)
        self.threshold = 0.5  # chosen on the validation split, kept in every checkpoint
        self.made: MadeOf | None = None  # what checkpoints say; who trains fills it in
        self.record = TrainingRecord()
        self._point: ResumePoint | None = None  # where a Trainer of one's own goes on

    @classmethod
    def load_from_checkpoint(  # type: ignore[override]  # of Lightning's arguments none is needed
        cls, checkpoint_path: str | Path, *, trust: Sequence[str] = ()
    ) -> Self:
        """The module of a .ckpt, on the CPU; what it was made of stays known.

        Args:
            checkpoint_path: the file, or a run folder (its best.ckpt).
            trust: packages whose classes it may name, beside attnseg's own and MONAI's networks.

        Raises:
            CheckpointError: it is not there, damaged, not made by attnseg, or names a class of a
                package that is not trusted.
        """
        path = find_checkpoint(str(checkpoint_path))
        content = read_checkpoint(path)
        record = content.get(KEY)
        if not isinstance(record, dict) or "state_dict" not in content:
            raise CheckpointError(f"{path}: not a checkpoint of attnseg's training")
        refuse_untrusted(record.get("config"), trust, path)
        refuse_untrusted_parts(record["config"], trust, path)
        module = cls(validate(record["config"], TrainConfig), load_weights=False)
        module.load_state_dict(content["state_dict"])
        module.on_load_checkpoint(content)
        return module

    def forward(self, xray: Tensor, drr: Tensor) -> AnyOutput:
        """Images (B, 1, H, W) to mask logits, attention logits and attention (B, 1, H, W)."""
        dtype = next(self.model.parameters()).dtype
        output: AnyOutput = self.model(xray.to(dtype), drr.to(dtype))
        return output

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """One step: named loss terms under the epoch's weights, adaptive multipliers included."""
        seed_step(self.config.seed, self.current_epoch, batch_idx, self.device)
        return self._step(batch, learn=True)["total"]

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """One validation batch; what it gave is in `record.step`, for the callbacks."""
        self._step(batch, learn=False)

    def _step(self, batch: Batch, *, learn: bool) -> dict[str, Tensor]:
        output = self(batch["xray"], batch["drr"])
        base = self.base_weights()
        weights = self.adaptive.weights(base) if self.adaptive is not None else base
        terms: dict[str, Tensor] = self.loss(
            output,
            batch["mask"],
            weights,
            batch=batch,
            supervise_attention=self.model.has_attention,
            deep_mask_logits=(
                output.deep_mask_logits if isinstance(output, DeeplySupervisedOutput) else ()
            ),
        )
        if self.adaptive is not None and learn:
            if self.adaptive.needs_gradients:
                self.adaptive.step(terms, base, self._shared())
            terms["total"] = terms["total"] + self.adaptive.regulariser(base)
        detached = {name: value.detach() for name, value in terms.items()}
        maps = DualPathwayOutput(*(tensor.detach() for tensor in output[:3]))
        self.record.last_step = StepRecord(detached, maps, batch)
        return terms

    def base_weights(self) -> dict[str, float]:
        """The schedule's weights of this epoch, those of what the model lacks set to 0."""
        weights = self.schedule.weights(self.current_epoch, self.loss.names)
        if not self.model.has_attention:
            weights |= {"attention": 0.0, "alignment": 0.0}
        return weights

    def _shared(self) -> list[torch.nn.Parameter]:
        """The last backbone layer: every term of the loss depends on it."""
        return [p for p in self.model.parameter_groups()["backbone"] if p.ndim > 1][-1:]

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """The optimizer over named groups; PhaseSwitching sets their rates before every step."""
        groups = dict(self.model.parameter_groups())
        if self.adaptive is not None:
            groups["loss"] = list(self.adaptive.parameters())
        trainable = {name: [p for p in ps if p.requires_grad] for name, ps in groups.items()}
        return build_optimizer(self.config.optim, trainable)

    def configure_callbacks(self) -> list[pl.Callback]:
        """What a run consists of beside the steps: phases, averaging, metrics, early stopping.

        `attnseg train` has them already, and others that need a run's folder.

        Raises:
            ConfigError: the Trainer contradicts the configuration (see `trainer_arguments`).
        """
        fits = self.trainer.state.fn == TrainerFn.FITTING
        return own_trainer.configured(self, self.trainer) if fits else []

    # Under a Trainer of one's own, what `attnseg train` does before the first step; that has
    # filled in what the run is made of.

    def setup(self, stage: str) -> None:
        """Identify the data."""
        self._threads = torch.get_num_threads()
        if stage == TrainerFn.FITTING and self.made is None:
            own_trainer.identify(self, self.trainer)

    def on_fit_start(self) -> None:
        """Check the data and load first weights; the checkpoint's are there already."""
        if self.made is None:
            own_trainer.begin(self, self.trainer, self._point)

    def teardown(self, stage: str) -> None:
        """Give back the number of threads."""
        torch.set_num_threads(self._threads)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add what a command needs to use the weights alone: plain types only.

        Raises:
            NonFiniteError: weights, their average or the optimizer's moments are not finite, on
                any rank; nothing is saved over what was.
        """
        broken = [name for part in gather_from_ranks(broken_state(checkpoint)) for name in part]
        if broken:
            raise NonFiniteError(
                f"weights became NaN or infinite by epoch {self.current_epoch + 1}, step "
                f"{self.global_step} ({some(broken)}); they are not saved"
            )
        checkpoint[KEY] = {
            "version": __version__,
            "config": recorded(self.config),
            "identity": newest(run_ids(self.config)),
            "ids": run_ids(self.config),
            "threshold": self.threshold,
            **(self.made or MadeOf()).entries(),
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take back the threshold, which is no tensor of the model.

        Raises:
            ConfigError: the checkpoint is of another run than the one that is to go on.
        """
        if self.made is None and self._trainer and self.trainer.state.fn == TrainerFn.FITTING:
            self._point = own_trainer.going_on(self, self.trainer)
        self.threshold = float(checkpoint[KEY]["threshold"])
