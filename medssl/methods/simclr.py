"""Simple contrastive learning: the two views of a slice are alike, all other slices of the batch are not."""

import torch
from torch import Tensor, nn

from medssl.losses import SupConLoss
from medssl.methods.embed import embed_views
from medssl.methods.spread import collapse_metrics


class SimCLR(nn.Module):
    r"""Pre-train an encoder by NT-Xent over the 2n views of a batch.

    .. math:: \mathcal{L} = \frac{-1}{2n} \sum_i \log
        \frac{\exp(z_i \cdot z_{j(i)} / \tau)}{\sum_{a \neq i} \exp(z_i \cdot z_a / \tau)}

    with :math:`j(i)` the other view of the same slice and all :math:`z` of unit length. When all are equal the loss is
    :math:`\ln(2n - 1)`.

    Args:
        encoder: image to list of features, finest first.
        head: pooled last features :math:`(n, C)` to embeddings :math:`(n, D)`.
        temperature: :math:`\tau`.

    Shape:
        - batch: ``view_1``, ``view_2`` :math:`(n, C, H, W)`.
        - output: scalars ``loss``, ``spread`` and effective ``rank``.

    Reference:
        Chen et al., A Simple Framework for Contrastive Learning of Visual Representations, ICML 2020, arXiv:2002.05709.
    """

    def __init__(self, encoder: nn.Module, head: nn.Module, temperature: float = 0.1) -> None:
        super().__init__()
        self.encoder, self.head = encoder, head
        self.contrast = SupConLoss(temperature)

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the loss and what is worth watching."""
        embeddings = embed_views(self.encoder, self.head, batch)  # (2n, D)
        slices = torch.arange(len(embeddings) // 2, device=embeddings.device).repeat(2)
        loss = self.contrast(embeddings, slices[:, None] == slices)
        return {"loss": loss, **collapse_metrics(embeddings)}
