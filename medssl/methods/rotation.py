"""Rotation prediction: by how many quarter turns was the slice turned?"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medssl.methods.embed import embed


class Rotation(nn.Module):
    r"""Pre-train an encoder by telling the four quarter turns of a slice apart.

    All four of each slice are in one batch, so that nothing but the turn tells them apart. The loss is the
    cross-entropy; of an encoder that knows nothing it is :math:`\ln 4`.

    Args:
        encoder: image to list of features, finest first.
        head: pooled last features :math:`(n, C)` to the logits of the turns :math:`(n, 4)`.

    Shape:
        - batch: ``view_1`` :math:`(n, C, H, H)`, square.
        - output: scalars ``loss`` and ``accuracy``.

    Raises:
        ValueError: when called, for slices that are not square.

    Reference:
        Gidaris, Singh, Komodakis, Unsupervised Representation Learning by Predicting Image Rotations, ICLR 2018,
        arXiv:1803.07728.
    """

    def __init__(self, encoder: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.encoder, self.head = encoder, head

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the loss and what is worth watching."""
        images = batch["view_1"]
        if images.shape[-2] != images.shape[-1]:
            raise ValueError(f"slices to turn must be square, got {tuple(images.shape)}; give one image_size twice.")
        turned = torch.cat([images.rot90(turns, dims=(-2, -1)) for turns in range(4)])  # (4n, C, H, H)
        turns = torch.arange(4, device=images.device).repeat_interleave(len(images))
        logits = embed(self.head, self.encoder(turned))  # (4n, 4)
        accuracy = (logits.argmax(dim=1) == turns).float().mean()
        return {"loss": F.cross_entropy(logits.float(), turns), "accuracy": accuracy}
