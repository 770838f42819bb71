"""Relative location: on which side of the central tile does another one lie?"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medssl.methods.embed import pool


class RelativeLocation(nn.Module):
    r"""Pre-train an encoder by telling the eight neighbours of a slice's central tile apart.

    The loss is the cross-entropy over all eight pairs of a slice; of an encoder that knows nothing it is
    :math:`\ln 8`.

    Args:
        encoder: image to list of features, finest first.
        head: pooled last features of the central tile and of another one :math:`(n, 2C)` to the logits of the places
            :math:`(n, 8)`.

    Shape:
        - batch: ``tiles`` :math:`(n, 9, C, h, h)`, row by row, as :py:class:`medssl.transforms.RandTilesBatch` cuts
          them.
        - output: scalars ``loss`` and ``accuracy``.

    Raises:
        ValueError: when called, for other than nine tiles.

    Reference:
        Doersch, Gupta, Efros, Unsupervised Visual Representation Learning by Context Prediction, ICCV 2015,
        arXiv:1505.05192.
    """

    def __init__(self, encoder: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.encoder, self.head = encoder, head

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the loss and what is worth watching."""
        tiles = batch["tiles"]
        if tiles.shape[1] != 9:
            raise ValueError(f"tiles must be the nine of a 3 x 3 grid, (n, 9, C, h, h), got {tuple(tiles.shape)}.")
        pooled = pool(self.encoder(tiles.flatten(0, 1))).unflatten(0, tiles.shape[:2])  # (n, 9, C)
        others = torch.cat([pooled[:, :4], pooled[:, 5:]], dim=1)  # (n, 8, C)
        pairs = torch.cat([pooled[:, 4:5].expand_as(others), others], dim=2)
        logits = self.head(pairs.flatten(0, 1))  # (8n, 8)
        place = torch.arange(8, device=tiles.device).repeat(len(tiles))
        accuracy = (logits.argmax(dim=1) == place).float().mean()
        return {"loss": F.cross_entropy(logits.float(), place), "accuracy": accuracy}
