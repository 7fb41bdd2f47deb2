"""Segmentation loss: BCE, Dice, focal, Tversky and focal-Tversky, each weighted.

Lesions are tiny and many images have none, so the overlap terms sum over the whole batch before
they divide (MONAI's `batch=True`): a case without a lesion then adds its false positives to the
denominator, instead of a term of its own that is 1 for any prediction. A batch without any
lesion is left to the smoothing, `SMOOTH_PX` in numerator and denominator.

MONAI is imported where a loss is built: it brings Matplotlib, and takes as long as torch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from attnseg.config import SegmentationLossConfig

SMOOTH_PX = 1.0
"""Smoothing of overlap terms, in pixels. Without a lesion in the batch Dice reads
1 - 1 / (1 + S) for a false-positive area of S px: 0 for none, its slope at most 1 per px. MONAI's
own 1e-5 would read 1 for any S above a thousandth of a pixel, and teach nothing."""

Term = Callable[[Tensor, Tensor], Tensor]


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


class FocalTverskyLoss(nn.Module):
    """(1 - Tversky index)^(1 / gamma) over the batch (Abraham and Khan, ISBI 2019, eq. 4).

    With gamma above 1 the slope grows as the index nears 1, which keeps small lesions that are
    almost right in play.
    """

    _FLOOR = 1e-6  # the power's slope is infinite at 0

    def __init__(self, alpha: float, beta: float, gamma: float) -> None:
        super().__init__()
        self.tversky = tversky_loss(alpha, beta)
        self.exponent = 1.0 / gamma

    def forward(self, logits: Tensor, mask: Tensor) -> Tensor:
        """Logits and mask (B, 1, H, W) -> scalar."""
        loss: Tensor = self.tversky(logits, mask)
        return loss.clamp_min(self._FLOOR).pow(self.exponent)


def dice_loss(*, sigmoid: bool, squared: bool = False) -> nn.Module:
    """Soft Dice loss over the batch (Milletari, 3DV 2016); `squared` is 0 at equal soft maps."""
    from monai.losses import DiceLoss

    loss: nn.Module = DiceLoss(
        sigmoid=sigmoid,
        squared_pred=squared,
        batch=True,
        smooth_nr=SMOOTH_PX,
        smooth_dr=SMOOTH_PX,
    )
    return loss


def tversky_loss(alpha: float, beta: float) -> nn.Module:
    """Tversky loss over the batch (Salehi 2017): false positives x alpha, negatives x beta."""
    from monai.losses import TverskyLoss

    loss: nn.Module = TverskyLoss(
        sigmoid=True,
        alpha=alpha,
        beta=beta,
        batch=True,
        smooth_nr=SMOOTH_PX,
        smooth_dr=SMOOTH_PX,
    )
    return loss


def focal_loss(gamma: float, alpha: float | None) -> nn.Module:
    """Focal loss on logits (Lin, ICCV 2017), mean over pixels; alpha is the lesions' share."""
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
        terms: dict[str, tuple[float, nn.Module]] = {
            "bce": (config.bce, BinaryCrossEntropy(config.bce_pos_weight)),
            "dice": (config.dice, dice_loss(sigmoid=True)),
            "focal": (config.focal, focal_loss(config.focal_gamma, config.focal_alpha)),
            "tversky": (config.tversky, tversky_loss(alpha, beta)),
            "focal_tversky": (
                config.focal_tversky,
                FocalTverskyLoss(alpha, beta, config.tversky_gamma),
            ),
        }
        self.weights = {name: weight for name, (weight, _) in terms.items() if weight > 0}
        self.terms = nn.ModuleDict({name: terms[name][1] for name in self.weights})

    def forward(self, mask_logits: Tensor, mask: Tensor) -> LossValue:
        """Compare predicted logits with the ground truth.

        Args:
            mask_logits: (B, 1, H, W), any float dtype.
            mask: (B, 1, H, W), 0 or 1.

        Returns:
            The weighted sum, and every term before its weight, detached.
        """
        logits, mask = mask_logits.float(), mask.float()
        parts = {name: term(logits, mask) for name, term in self.terms.items()}
        return weighted_sum(parts, self.weights)
