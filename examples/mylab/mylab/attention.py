"""An attention of our own: a soft ellipse, whose place and size a small network finds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import torch
from torch import Tensor, nn

from attnseg.component import Doc, Ge, Gt


class Ellipse(nn.Module):
    """Looks at one ellipse of the image; outside of it the attention falls off smoothly.

    The keyword arguments are its options: `attention.sharpness=4` on the command line.
    """

    reads_drr_features = False  # the DRR's encoder is not needed

    def __init__(
        self,
        xray_channels: Sequence[int],
        *,
        hidden_channels: Annotated[int, Ge(1), Doc("of the layer before the ellipse")] = 16,
        sharpness: Annotated[float, Gt(0), Doc("how fast the attention falls off")] = 4.0,
    ) -> None:
        super().__init__()
        self.sharpness = sharpness
        self.find = nn.Sequential(
            nn.AdaptiveAvgPool2d(4),
            nn.Flatten(),
            nn.Linear(16 * xray_channels[-1], hidden_channels),
            nn.ReLU(),
            nn.Linear(hidden_channels, 4),  # row, column, height, width
        )

    def forward(
        self, drr: Tensor, drr_features: list[Tensor], xray_features: list[Tensor]
    ) -> tuple[Tensor, Tensor]:
        """DRR (B, 1, H, W) and features of the X-ray to logits and attention, (B, 1, H, W)."""
        found = self.find(xray_features[-1])
        centre, size = found[:, :2].tanh(), 0.1 + found[:, 2:].sigmoid()
        height, width = drr.shape[-2:]
        rows = torch.linspace(-1, 1, height, device=drr.device).view(1, height, 1)
        columns = torch.linspace(-1, 1, width, device=drr.device).view(1, 1, width)
        far = ((rows - centre[:, 0, None, None]) / size[:, 0, None, None]) ** 2
        far = far + ((columns - centre[:, 1, None, None]) / size[:, 1, None, None]) ** 2
        logits = (self.sharpness * (1 - far)).unsqueeze(1)
        return logits, logits.sigmoid()
