"""The first stage of GCL as published: slices of the same part of any two volumes are alike."""

from torch import Tensor, nn

from medssl.losses import SupConLoss
from medssl.methods.embed import embed_views
from medssl.methods.spread import collapse_metrics


class GCLGlobal(nn.Module):
    r"""Pre-train an encoder by telling slices of one part of their volumes from those of all other parts.

    .. math:: \mathcal{L} = \operatorname{mean}_i \frac{1}{|P_i|} \sum_{j \in P_i} -\log
        \frac{\exp(z_i \cdot z_j / \tau)}{\exp(z_i \cdot z_j / \tau) + \sum_{a \in N_i} \exp(z_i \cdot z_a / \tau)}

    with :math:`P_i` the slices, of whichever volume and view, in i's part and :math:`N_i` those in all others. With as
    many slices of each part this is the mean over the paper's pairs, of its :math:`G^D`. When all embeddings are equal
    it is :math:`\ln(1 + |N|)`.

    Args:
        encoder: image to list of features, finest first.
        head: pooled last features :math:`(n, C)` to embeddings :math:`(n, D)`.
        num_partitions: parts of a volume, those of :py:class:`medssl.transforms.RandPartSlices`.
        temperature: :math:`\tau`.

    Shape:
        - batch: ``view_1``, ``view_2`` :math:`(n, C, H, W)`; integers ``index``, ``depth`` :math:`(n)`.
        - output: scalars ``loss``, ``spread`` and effective ``rank``.

    Raises:
        ValueError: if ``num_partitions`` is below 2.

    Reference:
        Chaitanya et al., Contrastive Learning of Global and Local Features for Medical Image Segmentation with Limited
        Annotations, NeurIPS 2020, arXiv:2006.10511.
    """

    def __init__(self, encoder: nn.Module, head: nn.Module, num_partitions: int = 4, temperature: float = 0.1) -> None:
        super().__init__()
        if num_partitions < 2:
            raise ValueError(f"num_partitions must be at least 2, got {num_partitions}; the paper takes 4.")
        self.encoder, self.head, self.num_partitions = encoder, head, num_partitions
        self.contrast = SupConLoss(temperature, positives_repel=False)

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the loss and what is worth watching."""
        embeddings = embed_views(self.encoder, self.head, batch)  # (2n, D)
        length = (batch["depth"] // self.num_partitions).clamp(min=1)
        part = (batch["index"] // length).clamp(max=self.num_partitions - 1).repeat(2)
        return {"loss": self.contrast(embeddings, part[:, None] == part), **collapse_metrics(embeddings)}
