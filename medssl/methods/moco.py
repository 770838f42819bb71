"""Momentum contrast: a slice finds its other view among the keys of many earlier slices."""

import torch
from torch import Tensor, nn

from medssl.losses import InfoNCELoss
from medssl.methods.embed import embed
from medssl.methods.parts import check_parts, in_parts
from medssl.methods.spread import collapse_metrics
from medssl.networks.memory import Queue
from medssl.networks.momentum import Momentum


class MoCo(nn.Module):
    r"""Pre-train an encoder by the InfoNCE loss against keys of a slowly following twin, kept in a queue.

    On one device batch normalisation can give the answer away: a query and its key share their batch's statistics. The
    authors shuffle the keys over eight GPUs; here the batch is split into ``num_splits`` parts that pass through the
    networks one after the other, the keys in another order than the queries.

    Args:
        encoder: image to list of features, finest first.
        head: pooled last features :math:`(n, C)` to embeddings :math:`(n, D)`.
        queue_size: K, keys remembered; a small part of the slices there are. Where slices are drawn with replacement a
            query meets :math:`K / \text{pool\_size}` older keys of its own slice among its negatives.
        pool_size: slices there are; a queue as long is refused. None does not ask.
        embed_dim: D.
        momentum: m of the twin, which moves once a batch: where the gradients of n batches are accumulated, take the
            n-th root.
        temperature: of the softmax, .07 in version 1, .2 in version 2.
        num_splits: parts of a batch that are normalised apart; each needs two images.

    Shape:
        - batch: ``view_1``, ``view_2`` :math:`(n, C, H, W)`.
        - output: scalars ``loss``, ``accuracy`` of finding the key, ``spread`` and effective ``rank``
          of the queries.

    Raises:
        ValueError: if ``num_splits`` is below 1, the queue as long as the pool, or a part of a batch below two images.

    Reference:
        He et al., Momentum Contrast for Unsupervised Visual Representation Learning, CVPR 2020, arXiv:1911.05722; Chen
        et al., Improved Baselines with Momentum Contrastive Learning, arXiv:2003.04297.
    """

    def __init__(
        self,
        encoder: nn.Module,
        head: nn.Module,
        queue_size: int = 65536,
        pool_size: int | None = None,
        embed_dim: int = 128,
        momentum: float = 0.999,
        temperature: float = 0.07,
        num_splits: int = 1,
    ) -> None:
        super().__init__()
        if num_splits < 1:
            raise ValueError(f"num_splits must be at least 1, got {num_splits}.")
        self.encoder, self.head, self.num_splits = encoder, head, num_splits
        self.key_encoder, self.key_head = Momentum(encoder, momentum), Momentum(head, momentum)
        self.queue = Queue(queue_size, embed_dim, pool_size)
        self.contrast = InfoNCELoss(temperature)

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the loss and what is worth watching; in training the twin follows and the queue moves on."""
        images, others = batch["view_1"], batch["view_2"]
        if self.training:
            check_parts(len(images), self.num_splits)
            self.key_encoder.follow(self.encoder)
            self.key_head.follow(self.head)
        (query,) = in_parts(lambda part: (embed(self.head, self.encoder(part)),), images, self.num_splits)
        with torch.no_grad():
            encoder, head = self.key_encoder.twin, self.key_head.twin
            (key,) = in_parts(lambda part: (embed(head, encoder(part)),), others, self.num_splits, shuffle=True)
        logits = self.contrast.logits(query, key, self.queue.keys)
        loss = nn.functional.cross_entropy(logits, torch.zeros(len(logits), dtype=torch.long, device=logits.device))
        if self.training:
            self.queue.push(key)
        accuracy = (logits[:, :1] > logits[:, 1:]).all(dim=1).float().mean()  # 0 of equal ones, as at collapse
        return {"loss": loss, "accuracy": accuracy, **collapse_metrics(query)}
