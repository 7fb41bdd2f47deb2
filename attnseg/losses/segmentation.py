"""Segmentation loss: BCE, Dice, focal, Tversky, focal-Tversky, blob and boundary, each weighted.

MONAI is imported where a focal loss is built: it brings Matplotlib, and takes as long as torch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Literal, NamedTuple

import torch
from torch import Tensor, nn

from attnseg.common.errors import ConfigError
from attnseg.common.hidden import without_mlflow
from attnseg.component import Doc, Fraction, Ge, Gt, NonNegative
from attnseg.losses.blob import BlobLoss
from attnseg.losses.boundary import BoundaryLoss
from attnseg.losses.overlap import DiceLoss, FocalTverskyLoss, TverskyLoss

PosWeight = Annotated[float, Gt(0.0), Doc("above 1: lesion pixels count more")]
FocalGamma = Annotated[NonNegative, Doc("higher: easy pixels count less")]
FocalAlpha = Annotated[
    Fraction | None, Doc("share of lesion pixels in the focal term; null: 1 for every pixel")
]

_ON_LOGITS = ("bce", "focal")  # the others are of probabilities


class LossValue(NamedTuple):
    """A loss and the unweighted parts that it is the weighted sum of, all scalars.

    Example:
        >>> LossValue(torch.tensor(3.0), {"bce": torch.tensor(1.0)}).value
        tensor(3.)
    """

    value: Tensor
    parts: dict[str, Tensor]


class BinaryCrossEntropy(nn.Module):
    """Mean binary cross-entropy on logits, positives counted `pos_weight` times.

    Example:
        >>> BinaryCrossEntropy(pos_weight=2.0)(torch.zeros(1, 1, 2, 2), torch.ones(1, 1, 2, 2))
        tensor(1.3863)
    """

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
    """Focal loss on logits (Lin, ICCV 2017), mean over pixels; alpha is the lesions' share.

    Example:
        >>> focal_loss(gamma=2.0, alpha=None)(torch.zeros(1, 1, 2, 2), torch.ones(1, 1, 2, 2))
        tensor(0.1733)
    """
    with without_mlflow():
        from monai.losses import FocalLoss

    loss: nn.Module = FocalLoss(gamma=gamma, alpha=alpha)
    return loss


def weighted_sum(parts: Mapping[str, Tensor], weights: Mapping[str, float]) -> LossValue:
    """The weighted sum of `parts`, with the parts themselves detached for the ledger.

    Example:
        >>> weighted_sum({"bce": torch.tensor(2.0)}, {"bce": 0.5}).value
        tensor(1.)
    """
    value = torch.stack([weights[name] * part for name, part in parts.items()]).sum()
    return LossValue(value, {name: part.detach() for name, part in parts.items()})


class SegmentationLoss(nn.Module):
    """Weighted sum of the segmentation terms, computed in float32; weight 0 leaves a term out.

    Raises:
        ConfigError: every weight is 0, or Tversky counts no error.

    Example:
        >>> loss = SegmentationLoss(focal=0.0)
        >>> logits, mask = torch.zeros(2, 1, 8, 8), torch.zeros(2, 1, 8, 8)
        >>> sorted(loss(logits, mask).parts)
        ['bce', 'dice']
    """

    name = "terms"

    def __init__(
        self,
        *,
        bce: Annotated[NonNegative, Doc("weight of binary cross-entropy")] = 1.0,
        dice: Annotated[
            NonNegative, Doc("over the batch, so that cases without a lesion do not dominate")
        ] = 1.0,
        focal: Annotated[NonNegative, Doc("weight of the focal term")] = 1.0,
        tversky: Annotated[NonNegative, Doc("weight of Tversky's overlap")] = 0.0,
        focal_tversky: Annotated[NonNegative, Doc("weight of its focal form")] = 0.0,
        blob: Annotated[
            NonNegative,
            Doc("an overlap of every lesion alone, so that small ones count like large ones"),
        ] = 0.0,
        boundary: Annotated[
            NonNegative,
            Doc("a wrong pixel costs its distance to the outline, in image diagonals"),
        ] = 0.0,
        bce_pos_weight: PosWeight = 1.0,
        focal_gamma: FocalGamma = 2.0,
        focal_alpha: FocalAlpha = 0.75,
        tversky_alpha: Annotated[Fraction, Doc("price of a false-positive pixel")] = 0.3,
        tversky_beta: Annotated[Fraction, Doc("price of a false-negative pixel")] = 0.7,
        tversky_gamma: Annotated[
            float, Ge(1.0), Doc("focal_tversky: (1 - index)^(1 / gamma)")
        ] = 1.33,
        blob_kind: Annotated[
            Literal["dice", "tversky"], Doc("the overlap of each lesion")
        ] = "dice",
    ) -> None:
        super().__init__()
        if tversky_alpha + tversky_beta == 0:
            raise ConfigError(
                "loss.segmentation: tversky_alpha and tversky_beta are both 0: no error would count"
            )
        alpha, beta = tversky_alpha, tversky_beta
        terms: dict[str, tuple[float, Callable[[], nn.Module]]] = {
            "bce": (bce, lambda: BinaryCrossEntropy(bce_pos_weight)),
            "dice": (dice, DiceLoss),
            "focal": (focal, lambda: focal_loss(focal_gamma, focal_alpha)),
            "tversky": (tversky, lambda: TverskyLoss(alpha, beta)),
            "focal_tversky": (focal_tversky, lambda: FocalTverskyLoss(alpha, beta, tversky_gamma)),
            "blob": (blob, lambda: BlobLoss(blob_kind, alpha, beta)),
            "boundary": (boundary, BoundaryLoss),
        }
        self.weights = {name: weight for name, (weight, _) in terms.items() if weight > 0}
        if not self.weights:
            raise ConfigError(
                "loss.segmentation: every term weighs 0: nothing would teach the segmentation"
            )
        self.terms = nn.ModuleDict({name: terms[name][1]() for name in self.weights})

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
