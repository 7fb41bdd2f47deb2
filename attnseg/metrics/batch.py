"""What a metric may look at beside the network's output."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """B cases, as they are at the evaluated size, on the network's device.

    Attributes:
        xray: (B, 1, H, W), standardised per image.
        drr: the same.
        mask: (B, 1, H, W) ground truth, 0 or 1.
        spacing: (B, 2) mm per pixel at this size, row then column; NaN where unknown.
        case_ids: B names, each once in an epoch.
        patient_ids: B names; cases of one patient share it.
        prior: (B, 2, H, W), where nodules were at an earlier time, and whether that is known;
            None where the data have no earlier time.
        ignore: (B, 1, H, W), 1 where nothing is to be measured; None where there is no such map.
        known_nodules: of each case a list of nodules, each a mapping with its `mask` (H, W) and
            its attributes; they may overlap. None where the data do not tell them.

    Example:
        >>> maps = torch.zeros(3, 1, 1, 8, 8)
        >>> Batch(*maps, torch.ones(1, 2), ["case"], ["patient"]).mask.shape
        torch.Size([1, 1, 8, 8])
    """

    xray: Tensor
    drr: Tensor
    mask: Tensor
    spacing: Tensor
    case_ids: Sequence[str]
    patient_ids: Sequence[str]
    prior: Tensor | None = None
    ignore: Tensor | None = None
    known_nodules: Sequence[Sequence[Mapping[str, Any]]] | None = None

    @classmethod
    def of(cls, batch: Mapping[str, Any], device: torch.device | str) -> Batch:
        """Of a batch as loaders give it."""
        optional = ("prior", "ignore", "known_nodules")
        tensors = {
            name: batch[name].to(device)
            for name in ("xray", "drr", "mask", "spacing", *optional)
            if isinstance(batch.get(name), Tensor)
        }
        return cls(
            **tensors,
            case_ids=list(batch["case_id"]),
            patient_ids=list(batch["patient_id"]),
            **({"known_nodules": batch["known_nodules"]} if "known_nodules" in batch else {}),
        )
