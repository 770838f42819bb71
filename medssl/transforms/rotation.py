"""Rotations in the units of ``grid_sample``."""

import torch
from torch import Tensor


def rotation(cos: Tensor, sin: Tensor, height: int, width: int) -> Tensor:
    """Return the matrix that turns a sampling grid about the image's centre, rigidly in pixels.

    ``grid_sample`` divides each axis by half its side: where these differ, a rotation has to be undone and redone.

    Args:
        cos: of the angles, :math:`(B)`, times a scale where there is one.
        sin: the same.
        height: of the images, pixels.
        width: the same.

    Returns:
        :math:`(B, 2, 2)`.
    """
    aspect = height / width
    return torch.stack([cos, -sin * aspect, sin / aspect, cos], dim=1).unflatten(1, (2, 2))
