"""Small networks and images for the tests of attnseg.nn."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from attnseg.build import build_model
from attnseg.config import Component, component
from attnseg.nn.output import SegmentationModel

MECHANISMS = ("none", "drr", "supervised", "anatomical")

UNET: dict[str, Any] = {
    "_target_": "monai.networks.nets.UNet",
    "spatial_dims": 2,
    "in_channels": 1,
    "out_channels": 1,
    "channels": [4, 8],
    "strides": [2],
}


def attention_config(name: str, **changes: Any) -> Component:
    small = {} if name == "none" else {"hidden_channels": 8}
    return component("attention", {"name": name, **small, **changes})


def dual_config(**changes: Any) -> Component:
    encoder = {"channels": [8, 8, 16, 16, 16]}
    return component(
        "model", {"name": "dual_pathway", "encoder": encoder, "decoder_channels": 8, **changes}
    )


def dual_model(mechanism: str = "anatomical", seed: int = 0, **changes: Any) -> SegmentationModel:
    """A tiny dual-pathway model; `changes` of the attention config by the prefix `attention_`."""
    attention = {k.removeprefix("attention_"): v for k, v in changes.items() if "attention_" in k}
    rest = {k: v for k, v in changes.items() if "attention_" not in k}
    torch.manual_seed(seed)
    return build_model(dual_config(**rest), attention_config(mechanism, **attention))


def monai_config(inputs: str = "xray", **changes: Any) -> Component:
    network = {key: value for key, value in {**UNET, **changes}.items() if value is not None}
    return component("model", {"name": "monai", "network": network, "inputs": inputs})


def images(height: int = 64, width: int = 64, batch: int = 2, seed: int = 1) -> tuple[Tensor, ...]:
    """An X-ray and a DRR (B, 1, H, W)."""
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(batch, 1, height, width, generator=generator) for _ in range(2))
