"""Pictures of the same few validation cases as training goes on."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl

from attnseg.config import OverlaysConfig
from attnseg.reports.overlays import OverlayCase, draw_overlays
from attnseg.runs.folder import RunFolder
from attnseg.training.loggers import log_overlays
from attnseg.training.record import StepRecord, record_of


class Overlays(pl.Callback):
    """Draws X-ray, DRR, attention, prediction and ground truth of the first positive cases.

    The maps are taken from the validation pass itself, so they are those of the weights that
    were measured (the averaged ones under EMA), and cost no forward pass of their own.
    """

    def __init__(self, config: OverlaysConfig, folder: RunFolder) -> None:
        self.config = config
        self.folder = folder
        self._cases: list[OverlayCase] = []

    def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Start collecting."""
        self._cases = []

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: Any,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keep the batch's positive cases, as long as some are wanted."""
        if not (self._due(trainer) and trainer.is_global_zero):
            return
        for index in range(len(batch["case_id"])):
            if len(self._cases) < self.config.n_cases and bool(batch["mask"][index].any()):
                self._cases.append(
                    overlay_case(record_of(pl_module).step, index, pl_module.threshold)
                )

    def on_validation_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Draw, and hand the picture to the loggers."""
        if not self._cases:
            return
        epoch = trainer.current_epoch + 1
        phase = pl_module.schedule.phase(trainer.current_epoch).name
        path = self.folder.report / "overlays" / f"epoch-{epoch:04d}.png"
        draw_overlays(self._cases, path, f"epoch {epoch}, {phase} (validation cases)")
        log_overlays(trainer.loggers, self._cases, path, epoch, trainer.global_step)
        self._cases = []

    def _due(self, trainer: pl.Trainer) -> bool:
        epoch = trainer.current_epoch + 1
        every = self.config.every_n_epochs
        return epoch == trainer.max_epochs or (every > 0 and (epoch == 1 or epoch % every == 0))


def overlay_case(
    step: StepRecord, index: int, threshold: float, metrics: dict[str, float] | None = None
) -> OverlayCase:
    """One case of a step as arrays, ready to draw."""

    def image(tensor: Any) -> Any:
        return tensor[index, 0].float().cpu().numpy()

    top, left, height, width = (int(value) for value in step.batch["content"][index])
    return OverlayCase(
        case_id=step.batch["case_id"][index],
        xray=image(step.batch["xray"]),
        drr=image(step.batch["drr"]),
        mask=image(step.batch["mask"]),
        attention=image(step.output.attention),
        probability=image(step.output.mask_logits.sigmoid()),
        threshold=threshold,
        metrics=metrics or {},
        content=(top, left, height, width),
    )
