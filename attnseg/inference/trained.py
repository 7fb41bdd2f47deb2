"""Trained models in Python: arrays in, findings out, as `attnseg predict` finds them in files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from attnseg.common.errors import ConfigError, DataError
from attnseg.common.memory import ready_device
from attnseg.config import PredictConfig, validate
from attnseg.imaging.case import Spacing
from attnseg.imaging.radiograph import Radiograph, aspect_of
from attnseg.inference.batches import BatchRunner
from attnseg.inference.case import Prediction, Settings, interpret, prepared_case
from attnseg.inference.inputs import Item
from attnseg.inference.predictor import (
    PassOptions,
    grid_of,
    predictor_of,
    threshold_of,
    trained_model,
)
from attnseg.inference.session import canvases
from attnseg.runs.checkpoints import LoadedCheckpoint, load_checkpoints

_OF_FILES = {
    "checkpoint", "trust", "images", "drr", "out", "save", "accelerator", "window", "anonymise",
    "resume", "page_cases",
}  # fmt: skip
"""Options of the command that have no meaning for an array."""


def load(
    checkpoint: str | Path | Sequence[str | Path],
    *,
    trust: Sequence[str] = (),
    accelerator: str = "auto",
) -> TrainedModel:
    """Load a trained model, or an ensemble.

    Args:
        checkpoint: a run folder (its best.ckpt), a .ckpt, a .safetensors, a list of such (an
            ensemble), a folder whose ensemble.txt lists them, or "pretrained".
        trust: packages whose networks a checkpoint may name, beside attnseg's and MONAI's.
        accelerator: auto, cpu or gpu.

    Raises:
        CheckpointError: there is none, it cannot be used, or names what is not trusted.
        ConfigError: no such accelerator.
    """
    given = [checkpoint] if isinstance(checkpoint, (str, Path)) else checkpoint
    members = load_checkpoints([str(one) for one in given], trust=trust)
    return TrainedModel(members, ready_device(accelerator))


class TrainedModel:
    """One trained model, or the members of an ensemble.

    Args:
        members: from `load_checkpoints`.
        device: torch's name of it.

    Attributes:
        members: what each checkpoint says of itself: configuration, threshold, id.
        threshold: of the mask, chosen on the validation split; an ensemble's mean.
        size: side of the square that the first member was trained at, px.
    """

    def __init__(self, members: Sequence[LoadedCheckpoint], device: str = "cpu") -> None:
        self.members = list(members)
        self.threshold = threshold_of(members, None)
        self.size = grid_of(members)
        self._models = [trained_model(member) for member in members]
        self._device = device
        self._runners: dict[PassOptions, BatchRunner] = {}

    def predict(
        self,
        xray: npt.NDArray[Any],
        drr: npt.NDArray[Any] | None = None,
        spacing: Spacing | None = None,
        *,
        case: str = "image",
        **options: Any,
    ) -> Prediction:
        """Segment one X-ray of any height and width.

        Args:
            xray: (H, W), any real dtype, bright where the radiation was absorbed.
            drr: (H, W), the same patient's on the same grid; None: the X-ray serves both pathways.
            spacing: mm per pixel (row, column); None: lesions have no mm.
            case: its name, which fixes what MC dropout draws.
            options: keys of `attnseg predict` by their names: `threshold`, `tta` (none, flip,
                flip_scale), `mc_dropout`, `seed`, `tiles`, `tile_overlap`, `min_lesion_px`,
                `square_pixels`, `on_mismatch`, `batch_size`.

        Raises:
            DataError: an array is no image, or the DRR does not fit the X-ray.
            ConfigError: an option that `attnseg predict` has not, or that the model does not allow.
            CheckpointError: the model's output is not finite.
        """
        if unknown := sorted(_OF_FILES & options.keys()):
            raise ConfigError(f"predict: {unknown[0]} is for files; `attnseg predict` takes it")
        words = {"checkpoint": "loaded", "images": case, "out": "nowhere", **options}
        config = validate(words, PredictConfig)
        settings = Settings(
            config,
            size=self.size,
            threshold=threshold_of(self.members, config.threshold),
            window="none",
            has_attention=any(model.has_attention for model in self._models),
            checkpoint="+".join(member.identity for member in self.members),
            key="",
        )
        other = None if drr is None else _radiograph(drr, spacing, "drr")
        item = Item(case, Path("xray"), None if drr is None else Path("drr"))
        opened = prepared_case(item, _radiograph(xray, spacing, "xray"), other, settings)
        [canvas] = canvases([opened], self._runner(config))
        return interpret(opened, canvas.maps(), settings)

    def _runner(self, config: PredictConfig) -> BatchRunner:
        passes = PassOptions(config.tta, config.mc_dropout, config.seed)
        if passes not in self._runners or config.batch_size != "auto":
            predictor = predictor_of(self.members, passes, self._models)
            self._runners[passes] = BatchRunner(predictor, self._device, config.batch_size)
        return self._runners[passes]


def _radiograph(pixels: npt.NDArray[Any], spacing: Spacing | None, name: str) -> Radiograph:
    """An array as a radiograph that was read.

    Raises:
        DataError: it is no grey image of finite numbers, or the spacing is not above 0.
    """
    array = np.asarray(pixels)
    if array.ndim != 2 or 0 in array.shape or array.dtype.kind not in "uifb":
        raise DataError(
            f"{name}: a grey image is needed, an array (H, W) of real numbers; this one is "
            f"{array.shape}, {array.dtype}"
        )
    if array.dtype not in (np.uint8, np.uint16, np.int16):
        array = array.astype(np.float32)
        if not np.isfinite(array).all():
            raise DataError(f"{name}: {int((~np.isfinite(array)).sum())} pixels are not finite")
    if spacing is not None:
        sound = len(spacing) == 2 and all(np.isfinite(mm) and mm > 0 for mm in spacing)
        if not sound:
            raise DataError(f"spacing={spacing}: two numbers above 0, mm per pixel (row, column)")
        spacing = (float(spacing[0]), float(spacing[1]))
    return Radiograph(array, "picture", spacing, aspect_of(spacing))
