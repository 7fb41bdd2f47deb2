"""Models and attention mechanisms."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from attnseg.config.base import Channels, Fraction, Norm, Positive, Section

EfficientNetName = Literal["efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2"]


class EncoderConfig(Section):
    """The feature pyramid of a pathway."""

    name: Literal["light", "resnet18", "resnet50"] | EfficientNetName = "light"
    channels: Channels = [8, 32, 64, 96, 128]  # light only: strides 2, 4, 8, ...
    blocks: Positive = 1  # light only: residual blocks a stage
    norm: Norm = "group"  # light only: group norm is the same on one process and on many
    # A local state dict: of TorchXRayVision or torchvision, of EfficientNet (or `imagenet`).
    weights: str | None = None

    @model_validator(mode="after")
    def _weights_have_a_network(self) -> EncoderConfig:
        if self.weights is not None and self.name == "light":
            raise ValueError(
                "weights: the light encoder reads none; choose model=efficientnet_lite0, resnet18 "
                "or resnet50"
            )
        return self

    @property
    def levels(self) -> int:
        """How many levels the pyramid has, the finest at stride 2."""
        if self.name == "light":
            return len(self.channels)
        return 4 if self.name.startswith("efficientnet") else 5


class FusionConfig(Section):
    """features x (1 + alpha x attention)."""

    alpha: float = 1.0
    learned: bool = True


class DualPathwayConfig(Section):
    """X-ray pathway, DRR pathway, attention, fusion, decoder."""

    name: Literal["dual_pathway"]
    encoder: EncoderConfig = EncoderConfig()
    drr_encoder: EncoderConfig | None = None  # null: like `encoder`
    decoder_channels: Positive = 8
    dropout: Fraction = 0.1
    fusion: FusionConfig = FusionConfig()
    deep_supervision: Annotated[int, Field(ge=0)] = 0  # coarser levels with a loss of their own

    @field_validator("deep_supervision")
    @classmethod
    def _levels_are_there(cls, value: int, info: ValidationInfo) -> int:
        encoder = info.data.get("encoder")  # absent where it is wrong itself
        if isinstance(encoder, EncoderConfig) and value > (most := max(encoder.levels - 2, 0)):
            strides = ", ".join(str(4 << level) for level in range(most))
            raise ValueError(
                f"at most {most} with model.encoder.name={encoder.name}, whose decoder has "
                + (f"coarser levels at stride {strides}" if most else "no coarser level")
            )
        return value


class OriginalModelConfig(Section):
    """The first attempt's architecture, the baseline that every claim is measured against."""

    name: Literal["original"]
    weights: str | None = None  # a local TorchXRayVision state dict
    alpha: float = 0.3
    freeze_early: bool = False  # train only the encoder's last stage, as the original did


class MonaiModelConfig(Section):
    """Any MONAI (or other importable) segmentation network as a control without attention."""

    name: Literal["monai"]
    network: dict[str, Any]  # {_target_: monai.networks.nets.UNet, ...}
    inputs: Literal["xray", "drr", "both"] = "xray"


AnyModel = Annotated[
    DualPathwayConfig | OriginalModelConfig | MonaiModelConfig, Field(discriminator="name")
]


class AttentionConfig(Section):
    """Which mechanism makes the attention map, and its shape."""

    name: Literal["none", "drr", "supervised", "anatomical"]
    hidden_channels: Positive = 32
    blocks: Positive = 2  # residual refinement blocks
    stride: Literal[1, 2, 4, 8] = 4  # resolution at which attention is computed
    temperature: Annotated[float, Field(gt=0.0)] = 0.5
    learned_temperature: bool = False
    dropout: Fraction = 0.1
