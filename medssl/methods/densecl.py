"""Dense contrastive learning: every place of a slice finds its match in the other view, beside MoCo's whole slices."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medssl.losses import InfoNCELoss
from medssl.methods.embed import embed
from medssl.methods.parts import check_parts, in_parts
from medssl.methods.spread import collapse_metrics, spread
from medssl.networks.memory import Queue
from medssl.networks.momentum import Momentum


class DenseCL(nn.Module):
    r"""Pre-train an encoder by InfoNCE of slices and of the places in them, each against a queue.

    .. math:: \mathcal{L} = (1 - \lambda) \mathcal{L}_q + \lambda \mathcal{L}_r

    :math:`\mathcal{L}_q` is MoCo's. In :math:`\mathcal{L}_r` the positive of a place is the place of the other view
    whose features in the encoder, not in the head, are most alike; its negatives are dense keys averaged over their
    slice, one a slice. There are n h w (K + 1) logits of places at a time.

    Args:
        encoder: image to list of features, finest first.
        head: pooled last features :math:`(n, C)` to embeddings :math:`(n, D)`.
        dense_head: last features :math:`(n, C, h, w)` to embeddings :math:`(n, D, h, w)`.
        queue_size: K, keys remembered of either kind; see :py:class:`medssl.methods.MoCo`.
        pool_size: slices there are; a queue as long is refused. None does not ask.
        embed_dim: D.
        momentum: m of the twin, which moves once a batch, see :py:class:`medssl.methods.MoCo`.
        temperature: of the softmax.
        dense_weight: :math:`\lambda`.
        num_splits: parts of a batch that are normalised apart; each needs two images.

    Shape:
        - batch: ``view_1``, ``view_2`` :math:`(n, C, H, W)`.
        - output: scalars ``loss``, ``slices`` and ``places``, its terms, ``spread`` and effective ``rank`` of the
          slices' embeddings, ``local_spread`` of the places'.

    Raises:
        ValueError: as MoCo's, or if ``dense_weight`` lies outside [0, 1].

    Reference:
        Wang et al., Dense Contrastive Learning for Self-Supervised Visual Pre-Training, CVPR 2021, arXiv:2011.09157.
    """

    def __init__(
        self,
        encoder: nn.Module,
        head: nn.Module,
        dense_head: nn.Module,
        queue_size: int = 65536,
        pool_size: int | None = None,
        embed_dim: int = 128,
        momentum: float = 0.999,
        temperature: float = 0.2,
        dense_weight: float = 0.5,
        num_splits: int = 1,
    ) -> None:
        super().__init__()
        if num_splits < 1:
            raise ValueError(f"num_splits must be at least 1, got {num_splits}.")
        if not 0 <= dense_weight <= 1:
            raise ValueError(f"dense_weight must lie in [0, 1], got {dense_weight}; the paper takes 0.5.")
        self.encoder, self.head, self.dense_head = encoder, head, dense_head
        self.key_encoder, self.key_head = Momentum(encoder, momentum), Momentum(head, momentum)
        self.key_dense_head = Momentum(dense_head, momentum)
        self.queue, self.dense_queue = (Queue(queue_size, embed_dim, pool_size) for _ in range(2))
        self.contrast, self.dense_weight, self.num_splits = InfoNCELoss(temperature), dense_weight, num_splits

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the loss and what is worth watching; in training the twin follows and the queues move on."""
        images, others = batch["view_1"], batch["view_2"]
        if self.training:
            check_parts(len(images), self.num_splits)
            self.key_encoder.follow(self.encoder)
            self.key_head.follow(self.head)
            self.key_dense_head.follow(self.dense_head)
        query, places, seen = in_parts(
            lambda part: embed_densely(self.encoder, self.head, self.dense_head, part), images, self.num_splits
        )
        with torch.no_grad():
            twins = self.key_encoder.twin, self.key_head.twin, self.key_dense_head.twin
            key, key_places, key_seen = in_parts(
                lambda part: embed_densely(*twins, part), others, self.num_splits, shuffle=True
            )
            matched = key_places.gather(1, match(seen, key_seen)[..., None].expand_as(key_places))  # (n, S, D)
        slices = self.contrast(query, key, self.queue.keys)
        dense = self.contrast(places.flatten(0, 1), matched.flatten(0, 1), self.dense_queue.keys)
        if self.training:
            self.queue.push(key)
            self.dense_queue.push(key_places.mean(dim=1))
        return {
            "loss": (1 - self.dense_weight) * slices + self.dense_weight * dense,
            "slices": slices.detach(),
            "places": dense.detach(),
            **collapse_metrics(query),
            "local_spread": spread(places.flatten(0, 1)),
        }


def embed_densely(encoder: nn.Module, head: nn.Module, dense_head: nn.Module, images: Tensor) -> tuple[Tensor, ...]:
    """Return embeddings of images (n, D), of their S places (n, S, D), and these places' features (n, S, C)."""
    last = encoder(images)[-1]
    return embed(head, [last]), dense_head(last).flatten(2).mT, last.flatten(2).mT


def match(features: Tensor, others: Tensor) -> Tensor:
    """Return for every place :math:`(n, S, C)` that of the other view which is most alike :math:`(n, S)`."""
    # Outside of autocast: in half precision neighbours tie, and the first of them is taken for the nearest.
    with torch.autocast(features.device.type, enabled=False):
        similarity = F.normalize(features.detach().float(), dim=2) @ F.normalize(others.float(), dim=2).mT
    return similarity.argmax(dim=2)
