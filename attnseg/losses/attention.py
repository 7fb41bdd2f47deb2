"""Attention supervision: the attention map is taught where the lesions are."""

from __future__ import annotations

from torch import Tensor, nn

from attnseg.config import AttentionLossConfig
from attnseg.losses.overlap import DiceLoss
from attnseg.losses.segmentation import (
    BinaryCrossEntropy,
    LossValue,
    focal_loss,
    weighted_sum,
)


class AttentionLoss(nn.Module):
    """Weighted sum of BCE and focal on the attention logits, and Dice on the map itself.

    Logits are supervised whatever makes the map of them: a spatial softmax normalised to [0, 1]
    has a 1 in every image, also in one without a lesion, so it cannot be held against an empty
    mask; its logits can. Dice is on the map that fusion uses, for those who want that one moved.

    Args:
        config: weight of every term (a term of weight 0 is left out) and their parameters.
    """

    def __init__(self, config: AttentionLossConfig) -> None:
        super().__init__()
        weights = {"bce": config.bce, "focal": config.focal, "dice": config.dice}
        self.weights = {name: weight for name, weight in weights.items() if weight > 0}
        self.on_logits = nn.ModuleDict()
        if config.bce > 0:
            self.on_logits["bce"] = BinaryCrossEntropy(config.bce_pos_weight)
        if config.focal > 0:
            self.on_logits["focal"] = focal_loss(config.focal_gamma, config.focal_alpha)
        self.on_map = DiceLoss() if config.dice > 0 else None

    def forward(self, attention_logits: Tensor, attention: Tensor, mask: Tensor) -> LossValue:
        """Compare attention with the ground truth, in float32.

        Args:
            attention_logits: (B, 1, H, W), any float dtype.
            attention: (B, 1, H, W) in [0, 1], any float dtype.
            mask: (B, 1, H, W), 0 or 1.

        Returns:
            The weighted sum, and every term before its weight, detached.
        """
        logits, mask = attention_logits.float(), mask.float()
        parts = {name: term(logits, mask) for name, term in self.on_logits.items()}
        if self.on_map is not None:
            parts["dice"] = self.on_map(attention.float(), mask)
        return weighted_sum(parts, self.weights)
