"""The dual-pathway model: X-ray pathway, DRR pathway, attention, fusion, decoder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from attnseg.config import AttentionConfig, DualPathwayConfig
from attnseg.models.attention import build_attention, reads_drr_pathway
from attnseg.models.decoder import AuxiliaryHeads, Decoder, SegmentationHead
from attnseg.models.encoders import Encoder, build_encoder
from attnseg.models.fusion import AttentionFusion
from attnseg.models.output import (
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
        config: encoders, fusion and decoder.
        attention: the mechanism.
        load_weights: False builds what a checkpoint will fill and reads no pretrained file.

    Raises:
        ConfigError: the parts do not fit together.
        CheckpointError: pretrained weights cannot be loaded.
    """

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
        self, config: DualPathwayConfig, attention: AttentionConfig, *, load_weights: bool = True
    ) -> None:
        super().__init__()
        self.xray_encoder = build_encoder(config.encoder, load_weights=load_weights)
        self.drr_encoder: Encoder | None = None
        if reads_drr_pathway(attention):
            drr_config = config.drr_encoder or config.encoder
            self.drr_encoder = build_encoder(drr_config, load_weights=load_weights)
        drr_channels = () if self.drr_encoder is None else self.drr_encoder.channels
        self.attention = build_attention(attention, drr_channels, self.xray_encoder.channels)
        self.has_attention = self.attention is not None
        levels = len(self.xray_encoder.channels)
        self.fusion = AttentionFusion(config.fusion, levels) if self.has_attention else None
        norm = "group" if config.encoder.name.startswith("resnet") else config.encoder.norm
        self.decoder = Decoder(
            self.xray_encoder.channels,
            config.decoder_channels,
            dropout=config.dropout,
            norm=norm,
        )
        self.head = SegmentationHead(self.decoder.channels, config.dropout)
        self.auxiliary_heads: AuxiliaryHeads | None = None
        if config.deep_supervision:  # last, so that all other weights start as they do without
            coarser = self.decoder.widths[1 : 1 + config.deep_supervision]
            assert len(coarser) == config.deep_supervision, "DualPathwayConfig checks it"
            self.auxiliary_heads = AuxiliaryHeads(coarser)

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
