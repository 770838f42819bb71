"""Simple siamese learning: one view predicts the other, whose gradient is stopped."""

from torch import Tensor, nn

from medssl.losses import NegativeCosineLoss
from medssl.methods.embed import embed
from medssl.methods.spread import collapse_metrics


class SimSiam(nn.Module):
    r"""Pre-train an encoder by predicting each view's embedding from the other's.

    .. math:: \mathcal{L} = \tfrac{1}{2} \mathcal{D}(p_1, \operatorname{sg}(z_2))
        + \tfrac{1}{2} \mathcal{D}(p_2, \operatorname{sg}(z_1))

    with :math:`\mathcal{D}` the negative cosine and sg the stopped gradient, without which all embeddings become one.
    ``spread`` is that of the predictions: embeddings that were normalised over the batch have a mean of 0 whatever they
    are, and hide a collapse of the encoder from it, see :py:class:`medssl.engine.FeatureSpread`.

    Args:
        encoder: image to list of features, finest first.
        head: pooled last features :math:`(n, C)` to embeddings :math:`(n, D)`, the projection.
        predictor: of embeddings :math:`(n, D)` from embeddings; its learning rate stays as it is in the paper.

    Shape:
        - batch: ``view_1``, ``view_2`` :math:`(n, C, H, W)`.
        - output: scalars ``loss``, ``spread`` and effective ``rank``.

    Reference:
        Chen, He, Exploring Simple Siamese Representation Learning, CVPR 2021, arXiv:2011.10566.
    """

    def __init__(self, encoder: nn.Module, head: nn.Module, predictor: nn.Module) -> None:
        super().__init__()
        self.encoder, self.head, self.predictor = encoder, head, predictor
        self.distance = NegativeCosineLoss()

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the loss and what is worth watching."""
        z_1, z_2 = (embed(self.head, self.encoder(batch[view])) for view in ("view_1", "view_2"))
        p_1, p_2 = self.predictor(z_1), self.predictor(z_2)
        loss = (self.distance(p_1, z_2.detach()) + self.distance(p_2, z_1.detach())) / 2
        return {"loss": loss, **collapse_metrics(p_1)}
