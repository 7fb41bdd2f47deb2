"""Attention supervision: the attention map is taught where the lesions are."""

from __future__ import annotations

from typing import Annotated

from torch import Tensor, nn

from attnseg.common.errors import ConfigError
from attnseg.component import Doc, NonNegative
from attnseg.losses.overlap import DiceLoss
from attnseg.losses.segmentation import (
    BinaryCrossEntropy,
    FocalAlpha,
    FocalGamma,
    LossValue,
    PosWeight,
    focal_loss,
    weighted_sum,
)


class AttentionLoss(nn.Module):
    """Weighted sum of BCE and focal on the attention logits, and Dice on the map itself.

    Logits are supervised whatever makes the map of them: a spatial softmax normalised to [0, 1]
    has a 1 in every image, also in one without a lesion, so it cannot be held against an empty
    mask; its logits can. Dice is on the map that fusion uses, for those who want that one moved.

    Weight 0 leaves a term out.

    Raises:
        ConfigError: every weight is 0.

    Example:
        >>> loss = AttentionLoss(dice=1.0)
        >>> logits, mask = torch.zeros(2, 1, 8, 8), torch.zeros(2, 1, 8, 8)
        >>> sorted(loss(logits, logits.sigmoid(), mask).parts)
        ['bce', 'dice', 'focal']
    """

    name = "terms"

    def __init__(
        self,
        *,
        bce: Annotated[NonNegative, Doc("weight of binary cross-entropy on the logits")] = 1.0,
        focal: Annotated[NonNegative, Doc("weight of the focal term on the logits")] = 1.0,
        dice: Annotated[
            NonNegative, Doc("on the map that fusion uses; the other two are on its logits")
        ] = 0.0,
        bce_pos_weight: PosWeight = 1.0,
        focal_gamma: FocalGamma = 2.0,
        focal_alpha: FocalAlpha = 0.75,
    ) -> None:
        super().__init__()
        weights = {"bce": bce, "focal": focal, "dice": dice}
        self.weights = {name: weight for name, weight in weights.items() if weight > 0}
        if not self.weights:
            raise ConfigError(
                "loss.attention: every term weighs 0; to train without supervision: schedule=none"
            )
        self.on_logits = nn.ModuleDict()
        if bce > 0:
            self.on_logits["bce"] = BinaryCrossEntropy(bce_pos_weight)
        if focal > 0:
            self.on_logits["focal"] = focal_loss(focal_gamma, focal_alpha)
        self.on_map = DiceLoss() if dice > 0 else None

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
