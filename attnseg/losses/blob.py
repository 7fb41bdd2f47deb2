"""Blob loss: an overlap term for every lesion, so that a large one cannot hide a missed small one.

Lesions are found on the CPU by SciPy, in the mask alone; no gradient passes there. On a GPU the
mask is copied to the host for it, one byte a pixel, and the step waits there until the forward
pass has finished (the copy queues behind it); what comes back is a few bytes a lesion pixel.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor, nn

from attnseg.common.connectivity import EIGHT
from attnseg.common.processes import sum_over_ranks
from attnseg.losses.overlap import dice_loss, tversky_loss

_EIGHT_IN_IMAGE = np.pad(EIGHT[None], ((1, 1), (0, 0), (0, 0)))  # images never touch


class Lesions(NamedTuple):
    """The L lesions of a batch of masks, P pixels together, on the masks' device.

    Attributes:
        pixel: (P,) int64, index into the flattened batch.
        lesion: (P,) int64, which of the L lesions each pixel is of.
        case: (L,) int64, the image that each lesion is in.
        n_in_case: (B,) int64, how many lesions each image has.

    Example:
        >>> mask = torch.tensor([[[[1.0, 0.0, 1.0]]]])
        >>> find_lesions(mask).n_in_case
        tensor([2])
    """

    pixel: Tensor
    lesion: Tensor
    case: Tensor
    n_in_case: Tensor


def find_lesions(mask: Tensor) -> Lesions:
    """The 8-connected components of every mask (B, 1, H, W), 0 or 1, as `attnseg.metrics` has them.

    One pass over the whole batch, on the CPU.

    Example:
        >>> mask = torch.tensor([[[[1.0, 0.0, 1.0]]]])
        >>> find_lesions(mask).pixel
        tensor([0, 2])
    """
    labels, n = ndimage.label((mask[:, 0] > 0.5).cpu().numpy(), structure=_EIGHT_IN_IMAGE)
    pixel = np.flatnonzero(labels)
    lesion = labels.ravel()[pixel].astype(np.int64) - 1
    case = np.empty(n, dtype=np.int64)
    case[lesion] = pixel // labels[0].size
    found = (pixel, lesion, case, np.bincount(case, minlength=len(mask)))
    return Lesions(*(torch.from_numpy(each).to(mask.device) for each in found))


class BlobLoss(nn.Module):
    """Mean over lesions of Dice or Tversky, each with the case's other lesions masked out.

    For lesion k with pixels R_k, in a case whose background (outside every lesion) is O:
    tp = sum over R_k of p, fn = sum over R_k of 1 - p, fp = sum over O of p, and the lesion's term
    is 1 - (2 tp + s) / (2 tp + fp + fn + s), or 1 - (tp + s) / (tp + alpha fp + beta fn + s)
    (Kofler et al., IPMI 2023, arXiv 2205.08209; s as in `attnseg.losses.overlap`). So a false
    positive counts in every term of its case, and what is predicted on one lesion in none of the
    others'. O is the same for all lesions of a case, so that they cost one pass together.

    As in the authors' code the mean runs over the lesions of a case, then over the cases that have
    any: a case's false positives do not count more for its number of lesions. A case without a
    lesion has no term, and a batch without any reads 0: false positives there are the other
    terms' business, so this one is to be added to them. In training the mean is the global
    batch's, like the other overlaps.

    Args:
        kind: the overlap of a lesion.
        alpha: tversky: weight of false positives.
        beta: tversky: weight of false negatives.

    Example:
        >>> mask = torch.tensor([[[[1.0, 0.0, 1.0]]]])
        >>> float(BlobLoss("dice", 0.5, 0.5)(mask, mask))
        0.0
    """

    def __init__(self, kind: Literal["dice", "tversky"], alpha: float, beta: float) -> None:
        super().__init__()
        self.kind, self.alpha, self.beta = kind, alpha, beta

    def forward(self, probability: Tensor, mask: Tensor) -> Tensor:
        """Probability (B, 1, H, W) in [0, 1] and mask (B, 1, H, W), 0 or 1 -> scalar in [0, 1)."""
        lesions = find_lesions(mask)
        per_lesion = self._terms(probability, mask, lesions)
        means = (per_lesion / lesions.n_in_case[lesions.case]).sum()
        sums = torch.stack([means, (lesions.n_in_case > 0).sum().to(means)])
        if self.training:  # in validation the processes differ in number of batches
            sums = sum_over_ranks(sums)
        loss: Tensor = sums[0] / sums[1].clamp_min(1.0)
        return loss

    def _terms(self, probability: Tensor, mask: Tensor, lesions: Lesions) -> Tensor:
        """Every lesion's loss (L,)."""
        inside = probability.flatten()[lesions.pixel]
        zeros = inside.new_zeros(len(lesions.case))
        hit = zeros.index_add(0, lesions.lesion, inside)
        missed = zeros.index_add(0, lesions.lesion, 1.0 - inside)
        surplus = (probability * (1.0 - mask)).flatten(1).sum(dim=1)[lesions.case]
        if self.kind == "dice":
            return dice_loss(hit, 2.0 * hit + surplus + missed)
        return tversky_loss(hit, surplus, missed, self.alpha, self.beta)
