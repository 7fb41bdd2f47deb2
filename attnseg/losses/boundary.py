"""Boundary loss: a wrong pixel costs its distance from the outline of the lesions.

Distances are computed on the CPU by SciPy, from the mask alone; no gradient passes there. On a
GPU the mask is copied to the host for it, one byte a pixel, and the step waits there until the
forward pass has finished; four bytes a pixel come back. With some tiny lesions a case it takes
about 3 ms of one core a case at 256 px, 13 ms at 512 px: nothing beside a step on a CPU, and
perhaps more than the rest of one on a fast GPU.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage
from torch import Tensor, nn


class BoundaryLoss(nn.Module):
    """mean(phi (p - y)) over the pixels of a batch, phi the signed distance to the outline of y.

    That is the mean of |phi| |p - y|: 0 for the mask itself, more the farther off the mistakes lie.
    It is the regional form of the distance between two outlines (Kervadec et al., MIDL 2019,
    arXiv 1812.07032). There the part without p is dropped from what is minimised;
    here it stays, with the same gradient, since a loss below 0 would mislead the ledger's reader
    and the adaptive weightings, which need one that tends to 0.

    Distances are in units of the image's diagonal (`signed_distance`), so that the loss is in
    [0, 1) and no matter of resolution; the paper's are in pixels, so a weight from there is to be
    multiplied by the diagonal (362 at 256 px, 724 at 512 px). Almost all of it are false positives
    far from any lesion: a tiny lesion's pixels are all near its outline, and add next to nothing,
    so an empty prediction all but minimises it. It is to be added to the others.

    Example:
        >>> mask = torch.tensor([[[[1.0, 0.0, 0.0]]]])
        >>> far, near = torch.tensor([[[[1.0, 0.0, 1.0]]]]), torch.tensor([[[[1.0, 1.0, 0.0]]]])
        >>> loss = BoundaryLoss()
        >>> bool(loss(far, mask) > loss(near, mask) > loss(mask, mask))
        True
    """

    def forward(self, probability: Tensor, mask: Tensor) -> Tensor:
        """Probability (B, 1, H, W) in [0, 1] and mask (B, 1, H, W), 0 or 1 -> scalar in [0, 1)."""
        loss: Tensor = (signed_distance(mask) * (probability - mask)).mean()
        return loss


def signed_distance(mask: Tensor) -> Tensor:
    """Euclidean distance of every pixel to the outline of its mask, below 0 inside.

    The outline runs between pixels: the distance is that of centre to nearest centre across it,
    less half a pixel. (The authors' code has 0 on the mask's own border pixels, which is most of
    a small lesion, and leaves them free.) A mask that is empty, or fills its image, has no outline
    and gets 0 everywhere, as there: the case adds nothing, and false positives in it are the other
    terms' business.

    Args:
        mask: (B, 1, H, W), 0 or 1.

    Returns:
        (B, 1, H, W) float32 on the mask's device, in units of the image's diagonal, in (-1, 1).

    Example:
        >>> mask = torch.zeros(1, 1, 3, 4)
        >>> mask[..., :2] = 1.0
        >>> signed_distance(mask)[0, 0, 0]
        tensor([-0.3000, -0.1000,  0.1000,  0.3000])
    """
    inside = (mask > 0.5).cpu().numpy()
    distance = np.zeros(inside.shape, dtype=np.float32)
    diagonal = math.hypot(*inside.shape[-2:])
    for to, image in zip(distance[:, 0], inside[:, 0], strict=True):
        if image.any() and not image.all():
            off = ndimage.distance_transform_edt(~image) - _depth(image)
            to[:] = (off - 0.5 * np.sign(off)) / diagonal
    return torch.from_numpy(distance).to(mask.device)


def _depth(image: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    """Distance (H, W) of every mask pixel to the nearest one that is none, in px; 0 elsewhere.

    Looked for in the mask's bounding box and the ring of pixels around it, which is no mask: a
    pixel farther out is no nearer than the ring's pixel on the way. Lesions fill a small box, and
    the transform of the whole image took longer inside them than outside.
    """
    rows, columns = (np.flatnonzero(image.any(axis=axis)) for axis in (1, 0))
    box = tuple(slice(max(found[0] - 1, 0), found[-1] + 2) for found in (rows, columns))
    depth = np.zeros(image.shape)
    depth[box] = ndimage.distance_transform_edt(image[box])
    return depth
