"""Positional contrastive learning: slices at like places of any two volumes are alike."""

from torch import Tensor, nn

from medssl.losses import GlobalPositionalLoss
from medssl.methods.embed import embed_views
from medssl.methods.spread import collapse_metrics


class PCL(nn.Module):
    """Pre-train an encoder by the positional loss over slices drawn from the pool of all volumes.

    Each view passes through the encoder by itself, so batch normalisation sees one view at a time, as in the reference.

    Args:
        encoder: image to list of features, finest first.
        head: pooled last features :math:`(n, C)` to embeddings :math:`(n, D)`.
        threshold: t, distance below which relative positions count as the same; .35 for ACDC, .1 for CHD.
        temperature: of the softmax.
        base_temperature: .07 multiplies the loss by temperature / .07 as the reference code does; None is the formula.

    Shape:
        - batch: ``view_1``, ``view_2`` :math:`(n, C, H, W)`; integers ``index``, ``depth`` :math:`(n)`.
        - output: scalars ``loss``, ``positional``, ``spread`` and effective ``rank``.

    Reference:
        Zeng et al., Positional Contrastive Learning for Volumetric Medical Image Segmentation, MICCAI 2021.
    """

    def __init__(
        self,
        encoder: nn.Module,
        head: nn.Module,
        threshold: float = 0.35,
        temperature: float = 0.1,
        base_temperature: float | None = None,
    ) -> None:
        super().__init__()
        self.encoder, self.head = encoder, head
        self.positional = GlobalPositionalLoss(threshold, temperature, base_temperature)

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the loss and what is worth watching."""
        embeddings = embed_views(self.encoder, self.head, batch)  # (2n, D)
        loss = self.positional(embeddings, batch["index"].repeat(2), batch["depth"].repeat(2))
        return {"loss": loss, "positional": loss.detach(), **collapse_metrics(embeddings)}
