"""What is minimised: named terms of segmentation, attention supervision and alignment.

Built on MONAI's losses where they exist, usable without the rest of the package: nothing here
knows of Lightning, Hydra or a particular model.
"""
