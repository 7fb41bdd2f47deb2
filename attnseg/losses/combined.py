"""The combined loss: segmentation + w_att x attention supervision + w_align x alignment."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from attnseg.common.errors import ConfigError
from attnseg.losses.adaptive import GROUPS
from attnseg.losses.alignment import AlignmentLoss
from attnseg.losses.attention import AttentionLoss
from attnseg.losses.deep import deeply_supervised
from attnseg.losses.segmentation import LossValue, SegmentationLoss

Term = Callable[["Output", Mapping[str, Any]], Tensor]


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
        segmentation: of the mask; every group weighs its own terms inside.
        attention: supervision of the attention.
        alignment: of attention and mask.
        terms: further ones by name: callables of the model's output and the batch, scalars.

    Example:
        >>> loss = CombinedLoss(terms={"sparse": lambda output, batch: output.attention.mean()})
        >>> loss.names
        ('segmentation', 'attention', 'alignment', 'sparse')
    """

    def __init__(
        self,
        segmentation: SegmentationLoss | None = None,
        attention: AttentionLoss | None = None,
        alignment: AlignmentLoss | None = None,
        terms: Mapping[str, Term] | None = None,
    ) -> None:
        super().__init__()
        self.segmentation = segmentation or SegmentationLoss()
        self.attention = attention or AttentionLoss()
        self.alignment = alignment or AlignmentLoss()
        self.terms = dict(terms or {})
        self._modules_of_terms = nn.ModuleList(
            term for term in self.terms.values() if isinstance(term, nn.Module)
        )  # so that they move to the device, and know whether it is training

    @property
    def names(self) -> tuple[str, ...]:
        """What can be weighed: the groups, then the further terms."""
        return (*GROUPS, *self.terms)

    def forward(
        self,
        output: Output,
        mask: Tensor,
        weights: Mapping[str, float | Tensor],
        *,
        batch: Mapping[str, Any] | None = None,
        supervise_attention: bool = True,
        deep_mask_logits: Sequence[Tensor] = (),
    ) -> dict[str, Tensor]:
        """Terms of one batch.

        Args:
            output: the model's output.
            mask: ground truth (B, 1, H, W), 0 or 1.
            weights: of everything in `names`: numbers from a schedule, or scalar tensors where an
                adaptive weighting learns them. What weighs 0 is computed for the ledger, without
                a graph, so it costs no backward.
            batch: what the further terms are given; without it, the mask alone.
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
        assert set(weights) == set(self.names), f"weights of {sorted(weights)}"
        batch = {"mask": mask} if batch is None else batch
        names = self.names if supervise_attention else (GROUPS[0], *self.terms)
        terms: dict[str, Tensor] = {}
        total = torch.zeros((), device=mask.device)
        with torch.autocast(device_type=mask.device.type, enabled=False):
            for name in names:
                weight = weights[name]
                active = isinstance(weight, Tensor) or weight > 0.0
                with torch.set_grad_enabled(active and torch.is_grad_enabled()):
                    value, parts = self._value(name, output, mask, batch, deep_mask_logits)
                terms |= {f"{name}/{part}": tensor for part, tensor in parts.items()}
                terms[name] = value
                if active:
                    total = total + weight * value
        return terms | {"total": total}

    def _value(
        self,
        name: str,
        output: Output,
        mask: Tensor,
        batch: Mapping[str, Any],
        deep: Sequence[Tensor],
    ) -> LossValue:
        match name:
            case "segmentation":
                return deeply_supervised(self.segmentation, output.mask_logits, deep, mask)
            case "attention":
                return LossValue(*self.attention(output.attention_logits, output.attention, mask))
            case "alignment":
                return LossValue(self.alignment(output.attention, output.mask_logits), {})
        value = self.terms[name](output, batch)
        if not isinstance(value, Tensor) or value.ndim:
            given = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise ConfigError(f"loss.terms.{name}: must give one number a batch, gave {given}")
        return LossValue(value.float(), {})
