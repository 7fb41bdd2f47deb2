from __future__ import annotations

from typing import ClassVar

import pytest
import torch
from torch import Tensor

from attnseg.models.output import DualPathwayOutput, Group, SegmentationModel
from attnseg.models.trained_size import AtTrainedSize


class Seen(SegmentationModel):
    """Answers with what it sees."""

    has_attention = True
    group_of_child: ClassVar[dict[str, Group]] = {}
    side = 0

    def forward(self, xray: Tensor, drr: Tensor) -> DualPathwayOutput:
        self.side = xray.shape[-1]
        return DualPathwayOutput(xray, drr, drr.clamp(0, 1))


@pytest.mark.parametrize("given", [32, 64, 128, 192])
def test_the_model_sees_its_own_size_and_answers_at_the_given_one(given: int) -> None:
    model = Seen()
    ramp = torch.linspace(0, 1, given).expand(2, 1, given, given)
    output = AtTrainedSize(model, 64)(ramp, 1 - ramp)
    assert model.side == 64
    assert all(made.shape == ramp.shape for made in output)
    # A ramp is still that ramp, away from the borders.
    inside = (..., slice(8, -8), slice(8, -8))
    torch.testing.assert_close(output.mask_logits[inside], ramp[inside], rtol=0, atol=0.02)
    torch.testing.assert_close(output.attention[inside], (1 - ramp)[inside], rtol=0, atol=0.02)


def test_at_the_trained_size_nothing_is_resampled() -> None:
    noise = torch.randn(1, 1, 64, 64)
    assert AtTrainedSize(Seen(), 64)(noise, noise).mask_logits is noise
