"""A model measured on another grid than it was trained on."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor
from torch.nn import functional as F

from attnseg.models.output import DualPathwayOutput, Group, SegmentationModel


class AtTrainedSize(SegmentationModel):
    """Sees images at the size it was trained at, answers at the size it is given.

    A nodule of 10 px at 256 x 256 is one of 20 px at 512 x 512: fed the larger image, a network
    would meet nodules of a size it has never seen. The images are scaled down antialiased (or up),
    the logits and the map back bilinearly.

    Args:
        model: trained on squares of `size`.
        size: px.
    """

    group_of_child: ClassVar[dict[str, Group]] = {"model": "backbone"}

    def __init__(self, model: SegmentationModel, size: int) -> None:
        super().__init__()
        self.model = model
        self.size = size
        self.has_attention = model.has_attention

    def forward(self, xray: Tensor, drr: Tensor) -> DualPathwayOutput:
        """(B, 1, H, W), square, of any size."""
        height, width = xray.shape[-2:]
        assert height == width, f"expected square images, got {height} x {width}"
        if height == self.size:
            unchanged: DualPathwayOutput = self.model(xray, drr)
            return unchanged
        small = (_resized(image, self.size) for image in (xray, drr))
        return DualPathwayOutput(*(_resized(made, height) for made in self.model(*small)))


def _resized(maps: Tensor, side: int) -> Tensor:
    return F.interpolate(
        maps, size=(side, side), mode="bilinear", align_corners=False, antialias=True
    )
