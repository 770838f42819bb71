"""Global contrastive learning: slices of the same part of any two volumes are alike."""

from torch import Tensor, nn

from medssl.losses import SupConLoss
from medssl.methods.embed import embed_views
from medssl.methods.spread import collapse_metrics


class GCL(nn.Module):
    r"""Pre-train an encoder by a contrastive loss whose positives are slices of one partition of their volumes.

    .. math:: \mathcal{L} = \operatorname{mean}_i \frac{-1}{|P_i|} \sum_{j \in P_i} \log
        \frac{\exp(z_i \cdot z_j / \tau)}{\sum_{a \neq i} \exp(z_i \cdot z_a / \tau)}

    with :math:`P_i` the slices, of whichever volume and view, in the same of S parts of their volume's depth. This is
    how the PCL reference code has GCL, and the row of that name in the tables of PCL and SAL.

    Args:
        encoder: image to list of features, finest first.
        head: pooled last features :math:`(n, C)` to embeddings :math:`(n, D)`.
        num_partitions: S.
        temperature: :math:`\tau`.

    Shape:
        - batch: ``view_1``, ``view_2`` :math:`(n, C, H, W)`; integers ``index``, ``depth`` :math:`(n)`.
        - output: scalars ``loss``, ``spread`` and effective ``rank``.

    Raises:
        ValueError: if ``num_partitions`` is below 1.

    Reference:
        Chaitanya et al., Contrastive Learning of Global and Local Features for Medical Image Segmentation with Limited
        Annotations, NeurIPS 2020, arXiv:2006.10511; Zeng et al., MICCAI 2021.
    """

    def __init__(self, encoder: nn.Module, head: nn.Module, num_partitions: int = 4, temperature: float = 0.1) -> None:
        super().__init__()
        if num_partitions < 1:
            raise ValueError(f"num_partitions must be at least 1, got {num_partitions}; the paper takes 4.")
        self.encoder, self.head, self.num_partitions = encoder, head, num_partitions
        self.contrast = SupConLoss(temperature)

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the loss and what is worth watching."""
        embeddings = embed_views(self.encoder, self.head, batch)  # (2n, D)
        part = partitions(batch["index"], batch["depth"], self.num_partitions).repeat(2)
        loss = self.contrast(embeddings, part[:, None] == part)
        return {"loss": loss, **collapse_metrics(embeddings)}


def partitions(index: Tensor, depth: Tensor, num_partitions: int) -> Tensor:
    """Return which part of its volume a slice lies in, 0 to S - 1.

    As in the PCL reference a part has V / S slices, rounded half to even, and the last takes what is left; volumes of
    fewer than S slices have parts of one slice, and not all of them.
    """
    length = (depth / num_partitions).round().long().clamp(min=1)
    return (index // length).clamp(max=num_partitions - 1)
