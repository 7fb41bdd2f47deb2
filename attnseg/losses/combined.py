"""The combined loss: segmentation + w_att x attention supervision + w_align x alignment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor, nn

from attnseg.config import LossConfig, WeightName
from attnseg.losses.alignment import AlignmentLoss
from attnseg.losses.attention import AttentionLoss
from attnseg.losses.deep import deeply_supervised
from attnseg.losses.segmentation import LossValue, SegmentationLoss
from attnseg.schedules import WEIGHT_NAMES


class Output(Protocol):
    """What is used of a model's output; every tensor (B, 1, H, W)."""

    @property
    def mask_logits(self) -> Tensor:
        """Predicted mask before its sigmoid."""

    @property
    def attention_logits(self) -> Tensor:
        """Attention before it becomes a map; supervised."""

    @property
    def attention(self) -> Tensor:
        """The map in [0, 1] that fusion uses."""


class CombinedLoss(nn.Module):
    """Every named term of the loss, and their weighted total, in float32 even under autocast.

    It holds no state: nothing of it is in a checkpoint.

    Args:
        config: which terms, and how they weigh inside their group.
    """

    def __init__(self, config: LossConfig) -> None:
        super().__init__()
        self.segmentation = SegmentationLoss(config.segmentation)
        self.attention = AttentionLoss(config.attention)
        self.alignment = AlignmentLoss(config.alignment)

    def forward(
        self,
        output: Output,
        mask: Tensor,
        weights: Mapping[WeightName, float | Tensor],
        *,
        supervise_attention: bool = True,
        deep_mask_logits: Sequence[Tensor] = (),
    ) -> dict[str, Tensor]:
        """Terms of one batch.

        Args:
            output: the model's output.
            mask: ground truth (B, 1, H, W), 0 or 1.
            weights: of the groups segmentation, attention, alignment: numbers from a schedule,
                or scalar tensors where an adaptive weighting learns them. A group of weight 0
                is computed for the ledger, without a graph, so it costs no backward.
            supervise_attention: false for a model without attention, which has no attention
                and no alignment terms.
            deep_mask_logits: of coarser decoder levels, (B, 1, H / 4, W / 4) first: deep
                supervision. They share the group segmentation, see `deeply_supervised`.

        Returns:
            Scalars: `<group>/<term>` before any weight, detached; `<group>`, the group's sum
            before the schedule's weight (with its graph, if active); `total`, to be minimised.
            With deep supervision `segmentation/deep_<i>` is the loss at stride 2^(i + 1), and
            `segmentation` the levels' mean under their weights. Validation has no such terms,
            and `segmentation` there is the loss at full size.
        """
        assert set(weights) == set(WEIGHT_NAMES), f"weights of {sorted(weights)}"
        terms: dict[str, Tensor] = {}
        total = torch.zeros((), device=mask.device)
        with torch.autocast(device_type=mask.device.type, enabled=False):
            for name in WEIGHT_NAMES if supervise_attention else WEIGHT_NAMES[:1]:
                weight = weights[name]
                active = isinstance(weight, Tensor) or weight > 0.0
                with torch.set_grad_enabled(active and torch.is_grad_enabled()):
                    value, parts = self._group(name, output, mask, deep_mask_logits)
                terms |= {f"{name}/{part}": tensor for part, tensor in parts.items()}
                terms[name] = value
                if active:
                    total = total + weight * value
        return terms | {"total": total}

    def _group(
        self, name: WeightName, output: Output, mask: Tensor, deep: Sequence[Tensor]
    ) -> LossValue:
        match name:
            case "segmentation":
                value = deeply_supervised(self.segmentation, output.mask_logits, deep, mask)
            case "attention":
                value = self.attention(output.attention_logits, output.attention, mask)
            case "alignment":
                value = LossValue(self.alignment(output.attention, output.mask_logits), {})
        return value
