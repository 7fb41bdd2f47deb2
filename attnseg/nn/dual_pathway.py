"""The dual-pathway model: X-ray pathway, DRR pathway, attention, fusion, decoder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, ClassVar

import torch
from torch import Tensor

from attnseg.common.errors import ConfigError
from attnseg.component import Doc, Fraction, Ge, Positive, Slot, attribute, provide
from attnseg.nn.attention.base import Attention
from attnseg.nn.attention.none import NoAttention
from attnseg.nn.decoder import AuxiliaryHeads, Decoder, SegmentationHead
from attnseg.nn.encoders import Encoder, LightEncoder
from attnseg.nn.fusion import AttentionFusion
from attnseg.nn.output import (
    AnyOutput,
    DeeplySupervisedOutput,
    DualPathwayOutput,
    Group,
    SegmentationModel,
    check_input,
)


class DualPathwayModel(SegmentationModel):
    """Segments the X-ray where the attention, which knows the DRR, says to look.

    The DRR reaches the mask through the attention map alone, so that what the map is worth can
    be measured; with `attention=none` the model is its own control that sees the X-ray alone.

    Args:
        encoder: makes the X-ray's feature pyramid.
        drr_encoder: makes the DRR's, where the attention reads it; None: like `encoder`.
        attention: makes the mechanism; `NoAttention` is the control.
        decoder_channels: of the finest level.
        dropout: of whole feature maps.
        deep_supervision: so many coarser decoder levels give logits in training, too.
        fusion: makes what lets attention act on features.
        load_weights: False builds what a checkpoint will fill and reads no pretrained file.

    Raises:
        ConfigError: the parts do not fit together.
        CheckpointError: pretrained weights cannot be loaded.

    Example:
        >>> from functools import partial
        >>> from attnseg.nn.attention.anatomical import AnatomicalAttention
        >>> model = DualPathwayModel(attention=partial(AnatomicalAttention, stride=8))
        >>> image = torch.zeros(1, 1, 64, 64)
        >>> model(image, image).attention.shape
        torch.Size([1, 1, 64, 64])
    """

    name = "dual_pathway"

    group_of_child: ClassVar[dict[str, Group]] = {
        "xray_encoder": "backbone",
        "drr_encoder": "backbone",
        "attention": "attention",
        "fusion": "attention",
        "decoder": "head",
        "head": "head",
        "auxiliary_heads": "head",
    }

    def __init__(
        self,
        attention: Callable[..., Attention] = NoAttention,
        *,
        encoder: Annotated[Callable[..., Encoder], Slot("encoder"), Doc("of the X-ray")] = (
            LightEncoder
        ),
        drr_encoder: Annotated[
            Callable[..., Encoder] | None,
            Slot("encoder"),
            Doc("null: like `encoder`; built only where the attention reads the DRR's features"),
        ] = None,
        decoder_channels: Annotated[
            Positive, Doc("of the finest level; each deeper one is twice as wide")
        ] = 8,
        dropout: Annotated[Fraction, Doc("of whole feature maps")] = 0.1,
        deep_supervision: Annotated[
            int, Ge(0), Doc("coarser decoder levels with a loss of their own")
        ] = 0,
        fusion: Annotated[
            Callable[..., AttentionFusion],
            Slot("fusion"),
            Doc("features x (1 + alpha x attention)"),
        ] = AttentionFusion,
        load_weights: bool = True,
    ) -> None:
        super().__init__()
        self.xray_encoder = _encoder(encoder, load_weights)
        self.has_attention = attribute(attention, "name", None) != NoAttention.name
        self.drr_encoder: Encoder | None = None
        if attribute(attention, "reads_drr_features", True):
            self.drr_encoder = _encoder(drr_encoder or encoder, load_weights)
        drr_channels = () if self.drr_encoder is None else self.drr_encoder.channels
        self.attention: Attention | None = None
        if self.has_attention:
            self.attention = provide(
                attention, drr_channels=drr_channels, xray_channels=self.xray_encoder.channels
            )
        levels = len(self.xray_encoder.channels)
        self.fusion = fusion(levels) if self.has_attention else None
        self.decoder = Decoder(
            self.xray_encoder.channels,
            decoder_channels,
            dropout=dropout,
            norm=getattr(self.xray_encoder, "norm", "group"),
        )
        self.head = SegmentationHead(self.decoder.channels, dropout)
        self.auxiliary_heads: AuxiliaryHeads | None = None
        if deep_supervision:  # last, so that all other weights start as they do without
            _refuse_missing_levels(deep_supervision, levels)
            self.auxiliary_heads = AuxiliaryHeads(self.decoder.widths[1 : 1 + deep_supervision])

    def forward(self, xray: Tensor, drr: Tensor) -> AnyOutput:
        """Segment a batch; (B, 1, H, W), height and width multiples of 32."""
        check_input(xray, drr)
        features = self.xray_encoder(xray)
        if self.attention is None or self.fusion is None:
            mask_logits, deep = self._decode(features)
            attention_logits = attention = torch.zeros_like(mask_logits)
        else:
            drr_features = [] if self.drr_encoder is None else self.drr_encoder(drr)
            attention_logits, attention = self.attention(drr, drr_features, features)
            mask_logits, deep = self._decode(self.fusion(features, attention))
        if deep:
            return DeeplySupervisedOutput(mask_logits, attention_logits, attention, deep)
        return DualPathwayOutput(mask_logits, attention_logits, attention)

    def _decode(self, features: Sequence[Tensor]) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Mask logits at full size, and those of the coarser levels where they are taught."""
        if self.auxiliary_heads is None or not self.training:
            return self.head(self.decoder(features)).float(), ()
        finest, *coarser = self.decoder.levels(features, 1 + len(self.auxiliary_heads.heads))
        return self.head(finest).float(), self.auxiliary_heads(coarser)


def _encoder(make: Callable[..., Encoder], load_weights: bool) -> Encoder:
    return provide(make, load_weights=load_weights)


def _refuse_missing_levels(wanted: int, levels: int) -> None:
    """The finest and the deepest level have no logits of their own."""
    if wanted <= (most := max(levels - 2, 0)):
        return
    strides = ", ".join(str(4 << level) for level in range(most))
    raise ConfigError(
        f"model.deep_supervision={wanted}: at most {most} with this encoder, whose decoder has "
        + (f"coarser levels at stride {strides}" if most else "no coarser level")
    )
