"""Networks: (X-ray, DRR) -> mask logits, attention logits, attention.

`build_model` makes any of them from its config; nothing here knows Lightning or Hydra.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from attnseg.config import AnyModel, AttentionConfig, DualPathwayConfig, OriginalModelConfig
from attnseg.errors import ConfigError

if TYPE_CHECKING:
    from attnseg.models.output import SegmentationModel


def build_model(
    model: AnyModel, attention: AttentionConfig, *, load_weights: bool = True
) -> SegmentationModel:
    """Build the network that the configs name.

    Args:
        model: which network.
        attention: which attention mechanism.
        load_weights: False builds the same architecture without reading the file in
            `encoder.weights`, or what a network of MONAI's would load, for a network that a
            checkpoint will fill.

    Raises:
        ConfigError: the configs do not fit together, or name a network that cannot be built.
        CheckpointError: pretrained weights cannot be loaded.
    """
    # Imported here so that a mistyped key costs no import of torch.
    if isinstance(model, DualPathwayConfig):
        from attnseg.models.dual_pathway import DualPathwayModel

        return DualPathwayModel(model, attention, load_weights=load_weights)
    if isinstance(model, OriginalModelConfig):
        from attnseg.models.original import OriginalModel

        return OriginalModel(model, attention, load_weights=load_weights)
    if attention.name != "none":
        raise ConfigError(
            f"model.name={model.name} is a control without attention, but attention.name is "
            f"'{attention.name}': add attention=none"
        )
    from attnseg.models.monai_control import MonaiControl

    return MonaiControl(model, load_weights=load_weights)


__all__ = ["build_model"]
