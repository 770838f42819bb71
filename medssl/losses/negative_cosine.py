"""Vectors that should point the same way, without any that should not."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class NegativeCosineLoss(nn.Module):
    r"""Turn every prediction towards its target (SimSiam, eq. 1).

    .. math:: \mathcal{D}(p, z) = -\operatorname{mean}_i \frac{p_i}{\lVert p_i \rVert} \cdot
        \frac{z_i}{\lVert z_i \rVert}

    BYOL's loss (eq. 2) is :math:`2 + 2 \mathcal{D}`. The gradient goes to both: detach the target. There are no
    negatives, and -1 is reached by vectors that are all equal as well.

    Shape:
        - prediction, target: :math:`(B, D)`, of any length and any floating type.
        - output: scalar in [-1, 1], float32 or wider.

    Raises:
        ValueError: when called, if both are not (B, D).

    Reference:
        Chen, He, Exploring Simple Siamese Representation Learning, CVPR 2021, arXiv:2011.10566; Grill et al., Bootstrap
        Your Own Latent, NeurIPS 2020, arXiv:2006.07733.
    """

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return the mean over the vectors."""
        if prediction.shape != target.shape or prediction.ndim != 2:
            raise ValueError(
                f"prediction and target must both be (B, D), got {tuple(prediction.shape)} and {tuple(target.shape)}."
            )
        wide = torch.promote_types(prediction.dtype, torch.float32)
        return -F.cosine_similarity(prediction.to(wide), target.to(wide), dim=1).mean()
