"""TensorBoard, through Lightning's own class."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pytorch_lightning.loggers import TensorBoardLogger

from attnseg.reports.overlays import OverlayCase
from attnseg.runs.folder import RunFolder
from attnseg.training.loggers.resilience import NeverStops


class TensorBoard(NeverStops, TensorBoardLogger):
    """Event files in `<run folder>/tensorboard`."""

    title = "TensorBoard"

    def __init__(self, folder: RunFolder) -> None:
        super().__init__(
            save_dir=folder.path, name="tensorboard", version="", default_hp_metric=False
        )

    def log_overlays(
        self, cases: Sequence[OverlayCase], picture: Path, epoch: int, step: int
    ) -> None:
        """Show the drawing of an epoch."""
        if self.failed:
            return
        with self.guarded():
            from matplotlib.image import imread

            image = imread(picture)[..., :3]
            self.experiment.add_image("overlays", image, step, dataformats="HWC")
