"""One positive key for every query, many negatives shared by all."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class InfoNCELoss(nn.Module):
    r"""Tell the key of every query from the negatives (MoCo, eq. 1).

    .. math:: \mathcal{L} = -\operatorname{mean}_i \log \frac{\exp(q_i \cdot k_i / \tau)}
        {\exp(q_i \cdot k_i / \tau) + \sum_{u} \exp(q_i \cdot u / \tau)}

    with all vectors scaled to unit length. When they are all equal it is :math:`\ln(K + 1)`.

    Args:
        temperature: :math:`\tau`; .07 in MoCo, .2 in MoCo v2.

    Shape:
        - query, key: :math:`(B, D)`; negatives u: :math:`(K, D)`; of any length and any floating type.
        - output: scalar, float32 or wider.

    Raises:
        ValueError: if the temperature is not positive, or the vectors are not of these shapes.

    Reference:
        He et al., Momentum Contrast for Unsupervised Visual Representation Learning, CVPR 2020, arXiv:1911.05722.
    """

    def __init__(self, temperature: float = 0.07) -> None:
        super().__init__()
        if not temperature > 0:
            raise ValueError(f"temperature must be positive, got {temperature}; MoCo takes 0.07, MoCo v2 0.2.")
        self.temperature = temperature

    def forward(self, query: Tensor, key: Tensor, negatives: Tensor) -> Tensor:
        """Return the mean over the queries."""
        return F.cross_entropy(self.logits(query, key, negatives), torch.zeros_like(query[:, 0], dtype=torch.long))

    def logits(self, query: Tensor, key: Tensor, negatives: Tensor) -> Tensor:
        """Return the similarities over the temperature :math:`(B, 1 + K)`, the positive's first."""
        if key.shape != query.shape or query.ndim != 2 or negatives.shape[1:] != query.shape[1:]:
            raise ValueError(
                f"query and key must be (B, D) and negatives (K, D), got {tuple(query.shape)}, {tuple(key.shape)} and "
                f"{tuple(negatives.shape)}."
            )
        with torch.autocast(query.device.type, enabled=False):
            wide = torch.promote_types(query.dtype, torch.float32)
            q, k, u = (F.normalize(vectors.to(wide), dim=1) for vectors in (query, key, negatives))
            return torch.cat([(q * k).sum(dim=1, keepdim=True), q @ u.mT], dim=1) / self.temperature
