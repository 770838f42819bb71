"""Pretext-invariant representations: a slice and its shuffled tiles are both what a memory bank has of the slice."""

import torch
from torch import Tensor, nn

from medssl.losses import InfoNCELoss
from medssl.methods.embed import embed
from medssl.methods.spread import collapse_metrics
from medssl.networks.memory import Bank


class PIRL(nn.Module):
    r"""Pre-train an encoder by finding a slice's own vector in a memory bank, from the slice and from its tiles.

    .. math:: \mathcal{L} = \lambda\, \ell(g(v_{t}), m) + (1 - \lambda)\, \ell(f(v), m), \qquad
        \ell(z, m) = -\log \frac{\exp(z \cdot m / \tau)}{\exp(z \cdot m / \tau) + \sum_u \exp(z \cdot m_u / \tau)}

    with m the slice's vector in the bank, :math:`m_u` those of others, drawn from the bank without the slices of the
    batch, and all vectors of unit length. The paper's binary noise-contrastive estimate is taken in this form, as by
    those who came after it. The bank follows f alone.

    Args:
        encoder: image to list of features, finest first.
        head: f, pooled last features :math:`(n, C)` to embeddings :math:`(n, D)`.
        tile_head: the same for a tile.
        joint_head: g, the embeddings of the nine tiles in any order :math:`(n, 9D)` to one :math:`(n, D)`.
        bank_size: N, slices there are; one vector for each.
        embed_dim: D.
        num_negatives: drawn from the bank for every batch, with replacement.
        momentum: share of a bank's vector that stays when it is seen again.
        temperature: :math:`\tau`.
        tiles_weight: :math:`\lambda`.

    Shape:
        - batch: ``view_1`` :math:`(n, C, H, W)`; ``tiles`` :math:`(n, 9, C, h, h)`; ``sample`` :math:`(n)` integers,
          which of the N slices each one is.
        - output: scalars ``loss``, ``tiles`` and ``slices``, its terms, ``spread`` and effective ``rank`` of the
          slices' embeddings.

    Raises:
        ValueError: if ``num_negatives`` is below 1, or ``tiles_weight`` lies outside [0, 1]; when called, if tiles are
            not nine.

    Reference:
        Misra, van der Maaten, Self-Supervised Learning of Pretext-Invariant Representations, CVPR 2020,
        arXiv:1912.01991.
    """

    def __init__(
        self,
        encoder: nn.Module,
        head: nn.Module,
        tile_head: nn.Module,
        joint_head: nn.Module,
        bank_size: int,
        embed_dim: int = 128,
        num_negatives: int = 32000,
        momentum: float = 0.5,
        temperature: float = 0.07,
        tiles_weight: float = 0.5,
    ) -> None:
        super().__init__()
        if num_negatives < 1:
            raise ValueError(
                f"num_negatives must be at least 1, got {num_negatives}; lower num_slices where a batch is as large as "
                "the bank."
            )
        if not 0 <= tiles_weight <= 1:
            raise ValueError(f"tiles_weight must lie in [0, 1], got {tiles_weight}; the paper takes 0.5.")
        self.encoder, self.head, self.tile_head, self.joint_head = encoder, head, tile_head, joint_head
        self.bank = Bank(bank_size, embed_dim, momentum)
        self.contrast = InfoNCELoss(temperature)
        self.num_negatives, self.tiles_weight = num_negatives, tiles_weight

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the loss and what is worth watching; in training the bank moves on."""
        tiles, sample = batch["tiles"], batch["sample"]
        if tiles.shape[1] != 9:
            raise ValueError(f"tiles must be the nine of a 3 x 3 grid, (n, 9, C, h, h), got {tuple(tiles.shape)}.")
        slices = embed(self.head, self.encoder(batch["view_1"]))  # (n, D)
        pieces = embed(self.tile_head, self.encoder(tiles.flatten(0, 1))).unflatten(0, tiles.shape[:2])  # (n, 9, D)
        order = torch.rand(tiles.shape[:2], device=tiles.device).argsort(dim=1)
        pieces = pieces.gather(1, order[..., None].expand_as(pieces))
        joint = self.joint_head(pieces.flatten(1))  # (n, D)
        others = self.bank.draw(self.num_negatives, sample)  # (K, D)
        own = self.bank.vectors[sample]  # (n, D)
        from_tiles, from_slices = self.contrast(joint, own, others), self.contrast(slices, own, others)
        if self.training:
            self.bank.update(sample, slices)
        return {
            "loss": self.tiles_weight * from_tiles + (1 - self.tiles_weight) * from_slices,
            "tiles": from_tiles.detach(),
            "slices": from_slices.detach(),
            **collapse_metrics(slices),
        }
