"""What is minimised: named terms of segmentation, attention supervision and alignment.

Built on MONAI's losses where they exist, usable without the rest of the package: nothing here
knows of Lightning, Hydra or a particular model.
"""

from attnseg.losses.adaptive import AdaptiveWeights, build_adaptive
from attnseg.losses.combined import CombinedLoss

__all__ = ["AdaptiveWeights", "CombinedLoss", "build_adaptive"]
