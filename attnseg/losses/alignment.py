"""Alignment: attention and predicted mask should point at the same place."""

from __future__ import annotations

import math
from typing import Annotated, Literal

import torch
from torch import Tensor, nn

from attnseg.component import Doc
from attnseg.losses.overlap import DiceLoss

STD_FLOOR = 1e-4
"""Maps that vary less than this count as constant: their correlation fades to 0, and its slope,
which grows as 1 / std, stays bounded."""


class AlignmentLoss(nn.Module):
    """Disagreement of the attention map with the predicted probability, 0 where they agree.

    The ground truth plays no part: a case without a lesion counts like any other, since there
    too the model should attend to what it predicts.

    Args:
        kind: pearson (1 - r, per case), dice (soft Dice loss with squared denominators over the
            batch) or mse (mean over pixels).
        detach: the map that is taken as given, so that only the other one moves.

    Example:
        >>> AlignmentLoss(kind="mse")(torch.zeros(1, 1, 4, 4), torch.zeros(1, 1, 4, 4))
        tensor(0.2500)
    """

    name = "terms"

    def __init__(
        self,
        *,
        kind: Annotated[
            Literal["pearson", "dice", "mse"], Doc("pearson is 1 - r per case")
        ] = "pearson",
        detach: Annotated[
            Literal["none", "attention", "segmentation"],
            Doc("that map is taken as given, only the other moves"),
        ] = "none",
    ) -> None:
        super().__init__()
        self.detach = detach
        kinds: dict[str, nn.Module] = {
            "pearson": PearsonLoss(),
            "dice": DiceLoss(squared=True),
            "mse": nn.MSELoss(),
        }
        self.term = kinds[kind]

    def forward(self, attention: Tensor, mask_logits: Tensor) -> Tensor:
        """Compare the two maps, in float32.

        Args:
            attention: (B, 1, H, W) in [0, 1], any float dtype.
            mask_logits: (B, 1, H, W), any float dtype.

        Returns:
            Scalar: in [0, 2] for pearson, [0, 1] for dice and mse.
        """
        attention, probability = attention.float(), mask_logits.float().sigmoid()
        if self.detach == "attention":
            attention = attention.detach()
        elif self.detach == "segmentation":
            probability = probability.detach()
        loss: Tensor = self.term(attention, probability)
        return loss


class PearsonLoss(nn.Module):
    """1 - Pearson's r over the pixels of a case, mean over cases; 1 for a constant map.

    Example:
        >>> ramp = torch.arange(16.0).view(1, 1, 4, 4)
        >>> round(float(PearsonLoss()(ramp, 2 * ramp + 1)), 4)
        0.0
    """

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """Two maps (B, 1, H, W) -> scalar in [0, 2]."""
        r = (_standardised(first) * _standardised(second)).mean(dim=1)
        return 1.0 - r.mean()


def _standardised(maps: Tensor) -> Tensor:
    """(B, 1, H, W) -> (B, N) of mean 0 and standard deviation 1, less where near constant."""
    flat = maps.flatten(1)
    centred = flat - flat.mean(dim=1, keepdim=True)
    # vector_norm has slope 0 at 0, where sqrt(var) has an infinite one
    std: Tensor = torch.linalg.vector_norm(centred, dim=1, keepdim=True) / math.sqrt(flat.shape[1])
    return centred / std.clamp_min(STD_FLOOR)
