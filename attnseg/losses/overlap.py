"""Overlap losses, soft Dice and Tversky, over the whole global batch.

Lesions are tiny and many images have none, so the sums run over the batch before they are
divided: a case without a lesion then adds its false positives to the denominator, instead of a
term of its own that is 1 for any prediction. On several processes the sums run over all of
them, so that the loss does not depend on how a batch is divided (MONAI's losses with
`batch=True`, which these equal on one process, see only their own part).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from attnseg.common.processes import sum_over_ranks

SMOOTH_PX = 1.0
"""Smoothing of overlap terms, in pixels, in numerator and denominator. Without a lesion in the
batch Dice reads 1 - 1 / (1 + S) for a false-positive area of S px: 0 for none, its slope at most
1 per px. MONAI's own 1e-5 would read 1 for any S above a thousandth of a pixel, and teach
nothing."""


def dice_loss(overlap: Tensor, area: Tensor) -> Tensor:
    """1 - (2 overlap + s) / (area + s), of any shape; areas in px, both masks' together.

    Example:
        >>> dice_loss(torch.tensor(50.0), torch.tensor(100.0))
        tensor(0.)
    """
    return 1.0 - (2.0 * overlap + SMOOTH_PX) / (area + SMOOTH_PX)


def tversky_loss(hit: Tensor, surplus: Tensor, missed: Tensor, alpha: float, beta: float) -> Tensor:
    """1 - (tp + s) / (tp + alpha fp + beta fn + s), of any shape; areas in px.

    Example:
        >>> tversky_loss(torch.tensor(50.0), torch.tensor(0.0), torch.tensor(0.0), 0.3, 0.7)
        tensor(0.)
    """
    return 1.0 - (hit + SMOOTH_PX) / (hit + alpha * surplus + beta * missed + SMOOTH_PX)


class DiceLoss(nn.Module):
    """1 - (2 sum(p y) + s) / (sum(p) + sum(y) + s) (Milletari, 3DV 2016).

    Args:
        squared: sums of squares in the denominator: 0 at equal soft maps.

    Example:
        >>> DiceLoss()(torch.ones(1, 1, 4, 4), torch.ones(1, 1, 4, 4))
        tensor(0.)
    """

    def __init__(self, *, squared: bool = False) -> None:
        super().__init__()
        self.squared = squared

    def forward(self, probability: Tensor, mask: Tensor) -> Tensor:
        """Two maps (B, 1, H, W) in [0, 1] -> scalar in [0, 1)."""
        first, second = (
            (probability.square(), mask.square()) if self.squared else (probability, mask)
        )
        overlap, area = _sums(self, probability * mask, first + second)
        return dice_loss(overlap, area)


class TverskyLoss(nn.Module):
    """1 - (tp + s) / (tp + alpha fp + beta fn + s) (Salehi, MLMI 2017).

    Args:
        alpha: weight of false positives.
        beta: weight of false negatives.

    Example:
        >>> TverskyLoss(alpha=0.3, beta=0.7)(torch.ones(1, 1, 4, 4), torch.ones(1, 1, 4, 4))
        tensor(0.)
    """

    def __init__(self, alpha: float, beta: float) -> None:
        super().__init__()
        self.alpha, self.beta = alpha, beta

    def forward(self, probability: Tensor, mask: Tensor) -> Tensor:
        """Two maps (B, 1, H, W) in [0, 1] -> scalar in [0, 1)."""
        hit, surplus, missed = _sums(
            self, probability * mask, probability * (1.0 - mask), (1.0 - probability) * mask
        )
        return tversky_loss(hit, surplus, missed, self.alpha, self.beta)


class FocalTverskyLoss(nn.Module):
    """(1 - Tversky index)^(1 / gamma) over the batch (Abraham and Khan, ISBI 2019, eq. 4).

    With gamma above 1 the slope grows as the index nears 1, which keeps small lesions that are
    almost right in play.

    Example:
        >>> half, mask = torch.full((1, 1, 4, 4), 0.5), torch.ones(1, 1, 4, 4)
        >>> bool(FocalTverskyLoss(0.3, 0.7, 2.0)(half, mask) > TverskyLoss(0.3, 0.7)(half, mask))
        True
    """

    _FLOOR = 1e-6  # the power's slope is infinite at 0

    def __init__(self, alpha: float, beta: float, gamma: float) -> None:
        super().__init__()
        self.tversky = TverskyLoss(alpha, beta)
        self.exponent = 1.0 / gamma

    def forward(self, probability: Tensor, mask: Tensor) -> Tensor:
        """Two maps (B, 1, H, W) in [0, 1] -> scalar."""
        loss: Tensor = self.tversky(probability, mask)
        return loss.clamp_min(self._FLOOR).pow(self.exponent)


def _sums(module: nn.Module, *maps: Tensor) -> Tensor:
    """The sum of each map, over all processes in training; in validation they differ in number."""
    sums = torch.stack([each.sum() for each in maps])
    return sum_over_ranks(sums) if module.training else sums
