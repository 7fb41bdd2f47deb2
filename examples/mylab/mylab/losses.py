"""A loss term of our own."""

from __future__ import annotations

from typing import Annotated, Any

from torch import Tensor

from attnseg.component import Doc, Gt


def sparsity(
    output: Any,
    batch: dict[str, Any],
    *,
    power: Annotated[float, Gt(0), Doc("1: the mean attention; above 1 spares faint maps")] = 1.0,
) -> Tensor:
    """The attention's mean over the batch: little where it looks at little.

    Args:
        output: of the model; `output.attention` is (B, 1, H, W) in [0, 1].
        batch: images and masks, (B, 1, H, W) each, under `xray`, `drr` and `mask`.
        power: on every pixel before the mean.
    """
    return (output.attention**power).mean()
