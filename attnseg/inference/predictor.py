"""Maps from models: one pass, or the mean of many with their spread as uncertainty.

A pass is one model of an ensemble, one view of the images (test-time augmentation) and one draw
of dropout (MC dropout; Gal & Ghahramani 2016). With a single pass the maps are the model's own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from attnseg.common.errors import ConfigError
from attnseg.common.seeding import derive_seed
from attnseg.nn.blocks import ChannelDropout
from attnseg.nn.output import STRIDE, SegmentationModel

if TYPE_CHECKING:
    from attnseg.runs.checkpoints import LoadedCheckpoint

Tta = Literal["none", "flip", "flip_scale"]
SCALE_STEP = 0.15  # how far a scaled view is from the image's own size: training's augmentation
_DROPOUT = (ChannelDropout, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout)


@dataclass(frozen=True)
class PassOptions:
    """Which passes are made.

    Attributes:
        tta: none; flip: also mirrored; flip_scale: both at three sizes.
        mc_dropout: passes with dropout on, of each view; 0: one with dropout off.
        seed: of the dropout; a case's draws depend on it, the case's key and the pass alone.
    """

    tta: Tta = "none"
    mc_dropout: int = 0
    seed: int = 0

    @property
    def plain(self) -> bool:
        """Whether a model is run once, as in training's validation."""
        return self.tta == "none" and self.mc_dropout == 0


@dataclass(frozen=True)
class Maps:
    """What a batch gave, all (B, 1, H, W) float32.

    Attributes:
        probability: mean over the passes.
        attention: mean over the passes of the models that have one; zeros without any.
        std: standard deviation of the probability over the passes; None of a single pass.
        n_passes: how many.
    """

    probability: Tensor
    attention: Tensor
    std: Tensor | None
    n_passes: int

    @property
    def entropy(self) -> Tensor:
        """Of the mean probability, in bits: 0 where sure, 1 at 0.5."""
        p = self.probability.clamp(1e-7, 1 - 1e-7)
        return -(p * p.log2() + (1 - p) * (1 - p).log2())


@dataclass(frozen=True)
class View:
    """One way to show an image: mirrored or not, its side changed by so many strides."""

    flip: bool = False
    strides: int = 0


def views_of(tta: Tta, side: int) -> list[View]:
    """The views of images of a side (px); the first is the image itself."""
    if tta == "none":
        return [View()]
    if tta == "flip":
        return [View(), View(flip=True)]
    step = max(1, round(SCALE_STEP * side / STRIDE))
    strides = [0, -step, step] if side > step * STRIDE else [0, step]
    return [View(flip, change) for change in strides for flip in (False, True)]


class Predictor(nn.Module):
    """Runs the models of an ensemble over every view and averages.

    Where images have another size than those of training, a model still sees that of its
    training: a nodule of 10 px at 256 x 256 is one of 20 px at 512 x 512, a size that a network
    may never have met. Images are scaled down antialiased (or up), maps back bilinearly.

    Args:
        models: one or more.
        options: which passes.
        sizes: of each, side of the squares that it was trained on, px; None: they take any.

    Raises:
        ConfigError: MC dropout of a model without dropout.
    """

    def __init__(
        self,
        models: Sequence[SegmentationModel],
        options: PassOptions | None = None,
        sizes: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        self.sizes = [None] * len(models) if sizes is None else list(sizes)
        self.models = nn.ModuleList(models)
        self.options = options or PassOptions()
        self.has_attention = any(model.has_attention for model in models)
        if self.options.mc_dropout and not all(map(_dropouts, models)):
            raise ConfigError(
                f"mc_dropout={self.options.mc_dropout}: the model has no dropout, so that every "
                "pass would be the same; use tta=flip, or an ensemble"
            )

    def forward(self, xray: Tensor, drr: Tensor, keys: Sequence[str]) -> Maps:
        """Predict a batch (B, 1, H, W).

        Args:
            xray, drr: standardised as in training.
            keys: a name a case; with the seed it fixes the dropout.
        """
        mean: Tensor | None = None
        spread = torch.zeros_like(xray, dtype=torch.float32)
        attention = torch.zeros_like(spread)
        count = n_attention = 0
        for probability, seen, has_attention in self._passes(xray, drr, keys):
            count += 1
            if mean is None:
                mean = probability
            else:  # Welford: the passes themselves are not kept
                delta = probability - mean
                mean = mean + delta / count
                spread += delta * (probability - mean)
            if has_attention:
                n_attention += 1
                attention += seen
        assert mean is not None
        attention = attention / max(n_attention, 1)
        std = (spread.clamp_min(0) / count).sqrt() if count > 1 else None
        return Maps(mean, attention, std, count)

    def _passes(
        self, xray: Tensor, drr: Tensor, keys: Sequence[str]
    ) -> Iterator[tuple[Tensor, Tensor, bool]]:
        """(probability, attention, whether that means anything) of each pass."""
        height, width = xray.shape[-2:]
        for member, (module, side) in enumerate(zip(self.models, self.sizes, strict=True)):
            assert isinstance(module, SegmentationModel)
            assert side is None or height == width, f"not square: {height} x {width}"
            shown = side or height, side or width
            images = _resized(xray, *shown), _resized(drr, *shown)
            for maps in self._views(module, *images, keys, member):
                probability, attention = (_resized(one, height, width) for one in maps)
                yield probability, attention, module.has_attention

    def _views(
        self, model: SegmentationModel, xray: Tensor, drr: Tensor, keys: Sequence[str], member: int
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """(probability, attention) of each pass of one model, on images of its size."""
        n = self.options.mc_dropout
        for view in views_of(self.options.tta, max(xray.shape[-2:])):
            if not n:
                yield _look(model, xray, drr, view)
            for draw in range(n):
                key = f"{member}/{view.flip}/{view.strides}/{draw}"
                yield self._dropped(model, xray, drr, view, keys, key)

    def _dropped(
        self,
        model: SegmentationModel,
        xray: Tensor,
        drr: Tensor,
        view: View,
        keys: Sequence[str],
        which: str,
    ) -> tuple[Tensor, Tensor]:
        """One pass with dropout, case by case, so that a batch's company changes no draw."""
        parts = []
        for index, key in enumerate(keys):
            one = slice(index, index + 1)
            with dropout_on(model, derive_seed("mc_dropout", self.options.seed, key, which)):
                parts.append(_look(model, xray[one], drr[one], view))
        probability, attention = zip(*parts, strict=True)
        return torch.cat(probability), torch.cat(attention)


@contextmanager
def dropout_on(model: nn.Module, seed: int) -> Iterator[None]:
    """Dropout as in training, drawn from a seed; nothing else of the model or torch changes."""
    layers = [layer for layer in _dropouts(model) if not layer.training]
    devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    for layer in layers:
        layer.train()
    try:
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(seed)
            yield
    finally:
        for layer in layers:
            layer.eval()


def predictor_of(
    members: Sequence[LoadedCheckpoint],
    options: PassOptions | None = None,
    models: Sequence[SegmentationModel] | None = None,
) -> Predictor:
    """The models that the checkpoints name, with their weights.

    Args:
        members: one checkpoint, or those of an ensemble.
        options: which passes.
        models: theirs, where they are built already.

    Raises:
        CheckpointError: weights of another model than the checkpoint's configuration names.
        ConfigError: MC dropout of a model without dropout; scaled views of one of fixed size.
    """
    for member in members:
        network = getattr(member.config.model, "network", {})
        if options is not None and options.tta == "flip_scale" and "img_size" in network:
            raise ConfigError(
                f"tta=flip_scale: {network.get('_target_')} takes images of one size only; "
                "use tta=flip"
            )
    models = models or [trained_model(member) for member in members]
    return Predictor(models, options, [member.config.data.size for member in members])


def trained_model(checkpoint: LoadedCheckpoint) -> SegmentationModel:
    """The model that a checkpoint's configuration names, with its weights.

    Raises:
        CheckpointError: weights of another model than the configuration names.
    """
    from attnseg.build import build_model

    model = build_model(checkpoint.config.model, checkpoint.config.attention, load_weights=False)
    checkpoint.load_into(model)
    return model


def grid_of(members: Sequence[LoadedCheckpoint]) -> int:
    """Side of the squares that maps are made on, px: what the first member was trained at.

    The others see them resized, so name the one first that sees the images' own pixels. The largest
    would be no better rule: what is magnified for one member and reduced again for another is
    blurred for the second.
    """
    return members[0].config.data.size


def threshold_of(members: Sequence[LoadedCheckpoint], given: float | None) -> float:
    """The one given, else the checkpoint's own; of an ensemble, the mean of its members'."""
    if given is not None:
        return given
    return sum(member.threshold for member in members) / len(members)


def _look(model: SegmentationModel, xray: Tensor, drr: Tensor, view: View) -> tuple[Tensor, Tensor]:
    """Probability and attention of one view, back on the grid of the images."""
    height, width = xray.shape[-2:]
    if view.strides:
        change = view.strides * STRIDE
        xray, drr = (_resized(image, height + change, width + change) for image in (xray, drr))
    if view.flip:
        xray, drr = xray.flip(-1), drr.flip(-1)
    output = model(xray, drr)
    probability, attention = output.mask_logits.float().sigmoid(), output.attention.float()
    if view.flip:
        probability, attention = probability.flip(-1), attention.flip(-1)
    if view.strides:
        probability = _resized(probability, height, width)
        attention = _resized(attention, height, width)
    return probability, attention


def _resized(image: Tensor, height: int, width: int) -> Tensor:
    if image.shape[-2:] == (height, width):
        return image
    return F.interpolate(
        image, (height, width), mode="bilinear", align_corners=False, antialias=True
    )


def _dropouts(model: nn.Module) -> list[nn.Module]:
    """The layers that drop something."""
    layers = [layer for layer in model.modules() if isinstance(layer, _DROPOUT)]
    return [
        layer for layer in layers if float(getattr(layer, "probability", getattr(layer, "p", 0)))
    ]
