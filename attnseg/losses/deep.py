"""Deep supervision: the segmentation loss on the decoder's coarser levels, too."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from attnseg.losses.segmentation import LossValue, SegmentationLoss


def level_weights(count: int) -> list[float]:
    """Weight of each of `count` levels, finest first: every one half of the finer, 1 together.

    As in nnU-Net (Isensee et al., Nature Methods 2021), so that the segmentation loss keeps its
    scale beside attention and alignment: 4/7, 2/7, 1/7.

    Example:
        >>> level_weights(2)
        [0.6666666666666666, 0.3333333333333333]
    """
    total = 2**count - 1
    return [2 ** (count - 1 - level) / total for level in range(count)]


def mask_at(mask: Tensor, size: tuple[int, int]) -> Tensor:
    """The mask (B, 1, H, W) on a coarser grid of `size`: 1 wherever any pixel below is a lesion's.

    A coarse position is asked whether there is a lesion, not how much of one: its largest pixel,
    as fusion brings the attention to a level. The covered share would be the better target for a
    map that has to be enlarged to the mask (experiments/lidc_data), but these maps are thrown
    away, the full-size one draws the outlines, and most terms could not use it. Dice and Tversky
    are not least where the prediction equals a share: their best is 0 or 1 everywhere, and 0
    wherever the share is below half the best Dice (with the smoothing, a lone position below 0.37).
    A lesion of 5 px, at most 0.31 of a position at stride 8, would be taught to be background.
    Blob and boundary want 0 or 1 and cut at a half, where it is gone; the focal term, too, has its
    minimum elsewhere. nnU-Net's nearest pixel misses what is smaller than a stride. The price:
    lesions less than a stride apart can become one.

    Returns:
        (B, 1, *size) float32, 0 or 1.

    Example:
        >>> mask_at(torch.eye(4).view(1, 1, 4, 4), (2, 2))
        tensor([[[[1., 0.],
                  [0., 1.]]]])
    """
    stride = mask.shape[-1] // size[1]
    assert mask.shape[-2:] == (stride * size[0], stride * size[1]), "a whole stride"
    return F.max_pool2d(mask.float(), stride)


def deeply_supervised(
    loss: SegmentationLoss, mask_logits: Tensor, deep: Sequence[Tensor], mask: Tensor
) -> LossValue:
    """The segmentation loss at full size and at coarser levels, as their weighted mean.

    Smoothing and areas of the overlap terms count a level's own positions.

    Args:
        loss: of one level.
        mask_logits: (B, 1, H, W).
        deep: of the coarser levels, finest first; none: the loss at full size alone.
        mask: (B, 1, H, W), 0 or 1.

    Returns:
        The mean under `level_weights`. Parts are the terms at full size, and as `deep_<i>` each
        coarser level's loss (the sum of its terms) before its weight, detached.

    Example:
        >>> logits, coarser, mask = (torch.zeros(1, 1, n, n) for n in (16, 4, 16))
        >>> sorted(deeply_supervised(SegmentationLoss(focal=0.0), logits, [coarser], mask).parts)
        ['bce', 'deep_1', 'dice']
    """
    full = loss(mask_logits, mask)
    if not deep:
        return LossValue(*full)
    levels = [loss(logits, mask_at(mask, _size(logits))).value for logits in deep]
    weights = level_weights(1 + len(deep))
    values = [w * value for w, value in zip(weights, [full.value, *levels], strict=True)]
    parts = {f"deep_{level}": value.detach() for level, value in enumerate(levels, 1)}
    return LossValue(torch.stack(values).sum(), {**full.parts, **parts})


def _size(maps: Tensor) -> tuple[int, int]:
    return maps.shape[-2], maps.shape[-1]
