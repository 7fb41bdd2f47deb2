"""Segmentation loss: BCE, Dice, focal, Tversky, focal-Tversky, blob and boundary, each weighted.

MONAI is imported where a focal loss is built: it brings Matplotlib, and takes as long as torch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from attnseg.config import SegmentationLossConfig
from attnseg.hidden import without_mlflow
from attnseg.losses.blob import BlobLoss
from attnseg.losses.boundary import BoundaryLoss
from attnseg.losses.overlap import DiceLoss, FocalTverskyLoss, TverskyLoss

_TERMS = ("bce", "dice", "focal", "tversky", "focal_tversky", "blob", "boundary")
_ON_LOGITS = ("bce", "focal")  # the others are of probabilities


class LossValue(NamedTuple):
    """A loss and the unweighted parts that it is the weighted sum of, all scalars."""

    value: Tensor
    parts: dict[str, Tensor]


class BinaryCrossEntropy(nn.Module):
    """Mean binary cross-entropy on logits, positives counted `pos_weight` times."""

    pos_weight: Tensor

    def __init__(self, pos_weight: float = 1.0) -> None:
        super().__init__()
        self.register_buffer("pos_weight", torch.tensor(pos_weight), persistent=False)

    def forward(self, logits: Tensor, mask: Tensor) -> Tensor:
        """Logits and mask (B, 1, H, W) -> scalar."""
        return nn.functional.binary_cross_entropy_with_logits(
            logits, mask, pos_weight=self.pos_weight
        )


def focal_loss(gamma: float, alpha: float | None) -> nn.Module:
    """Focal loss on logits (Lin, ICCV 2017), mean over pixels; alpha is the lesions' share."""
    with without_mlflow():
        from monai.losses import FocalLoss

    loss: nn.Module = FocalLoss(gamma=gamma, alpha=alpha)
    return loss


def weighted_sum(parts: Mapping[str, Tensor], weights: Mapping[str, float]) -> LossValue:
    """The weighted sum of `parts`, with the parts themselves detached for the ledger."""
    value = torch.stack([weights[name] * part for name, part in parts.items()]).sum()
    return LossValue(value, {name: part.detach() for name, part in parts.items()})


class SegmentationLoss(nn.Module):
    """Weighted sum of the segmentation terms, computed in float32.

    Args:
        config: weight of every term (a term of weight 0 is left out) and their parameters.
    """

    def __init__(self, config: SegmentationLossConfig) -> None:
        super().__init__()
        alpha, beta = config.tversky_alpha, config.tversky_beta
        self.weights = {name: getattr(config, name) for name in _TERMS if getattr(config, name)}
        terms: dict[str, Callable[[], nn.Module]] = {
            "bce": lambda: BinaryCrossEntropy(config.bce_pos_weight),
            "dice": DiceLoss,
            "focal": lambda: focal_loss(config.focal_gamma, config.focal_alpha),
            "tversky": lambda: TverskyLoss(alpha, beta),
            "focal_tversky": lambda: FocalTverskyLoss(alpha, beta, config.tversky_gamma),
            "blob": lambda: BlobLoss(config.blob_kind, alpha, beta),
            "boundary": BoundaryLoss,
        }
        self.terms = nn.ModuleDict({name: terms[name]() for name in self.weights})

    def forward(self, mask_logits: Tensor, mask: Tensor) -> LossValue:
        """Compare predicted logits with the ground truth.

        Args:
            mask_logits: (B, 1, H, W), any float dtype.
            mask: (B, 1, H, W), 0 or 1.

        Returns:
            The weighted sum, and every term before its weight, detached.
        """
        logits, mask = mask_logits.float(), mask.float()
        probability = logits.sigmoid()
        parts = {
            name: term(logits if name in _ON_LOGITS else probability, mask)
            for name, term in self.terms.items()
        }
        return weighted_sum(parts, self.weights)
