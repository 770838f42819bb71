"""Bootstrap your own latent: one view predicts what a slowly following twin makes of the other."""

import math

import torch
from torch import Tensor, nn

from medssl.losses import NegativeCosineLoss
from medssl.methods.embed import embed
from medssl.methods.spread import collapse_metrics
from medssl.networks.momentum import Momentum


class BYOL(nn.Module):
    r"""Pre-train an encoder by predicting a momentum twin's embedding of the other view.

    .. math:: \mathcal{L} = \left(2 - 2 \cos(q(z_1), \operatorname{sg}(z'_2))\right)
        + \left(2 - 2 \cos(q(z_2), \operatorname{sg}(z'_1))\right)

    with :math:`z` of the network that learns, :math:`z'` of its twin and q the predictor. The loss of a collapsed
    encoder is 0, as is that of a perfect one: watch ``spread``.

    Args:
        encoder: image to list of features, finest first.
        head: pooled last features :math:`(n, C)` to embeddings :math:`(n, D)`, the projection; batch normalisation in
            it matters.
        predictor: of embeddings :math:`(n, D)` from embeddings.
        momentum: m of the twin at the beginning; the twin moves once a batch, see :py:class:`medssl.methods.MoCo`.
        total_steps: batches along which m rises to 1 by half a cosine, as in the paper; None keeps it.

    Shape:
        - batch: ``view_1``, ``view_2`` :math:`(n, C, H, W)`.
        - output: scalars ``loss``, ``spread`` and effective ``rank``.

    Raises:
        ValueError: if ``total_steps`` is below 1.

    Reference:
        Grill et al., Bootstrap Your Own Latent, NeurIPS 2020, arXiv:2006.07733.
    """

    def __init__(
        self,
        encoder: nn.Module,
        head: nn.Module,
        predictor: nn.Module,
        momentum: float = 0.996,
        total_steps: int | None = None,
    ) -> None:
        super().__init__()
        if total_steps is not None and total_steps < 1:
            raise ValueError(f"total_steps must be at least 1, or None to keep the momentum, got {total_steps}.")
        self.encoder, self.head, self.predictor = encoder, head, predictor
        self.twin_encoder, self.twin_head = Momentum(encoder, momentum), Momentum(head, momentum)
        self.momentum, self.total_steps, self.steps = momentum, total_steps, 0
        self.distance = NegativeCosineLoss()

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the loss and what is worth watching; in training the twin follows."""
        if self.training:
            self.follow()
        views = batch["view_1"], batch["view_2"]
        online = [embed(self.head, self.encoder(view)) for view in views]
        with torch.no_grad():
            target = [embed(self.twin_head.twin, self.twin_encoder.twin(view)) for view in views]
        distances = [
            2 + 2 * self.distance(self.predictor(z), other) for z, other in zip(online, reversed(target), strict=True)
        ]
        return {"loss": distances[0] + distances[1], **collapse_metrics(online[0])}

    def follow(self) -> None:
        """Move the twin by one step, with the momentum of this step."""
        momentum = self.momentum
        if self.total_steps is not None:
            part = min(1.0, self.steps / self.total_steps)
            momentum = 1 - (1 - self.momentum) * (math.cos(math.pi * part) + 1) / 2
        self.twin_encoder.follow(self.encoder, momentum)
        self.twin_head.follow(self.head, momentum)
        self.steps += 1

    def get_extra_state(self) -> Tensor:
        """Return how many steps were taken, for a checkpoint."""
        return torch.tensor(self.steps)

    def set_extra_state(self, state: Tensor) -> None:
        """Continue where a checkpoint was."""
        self.steps = int(state)
