"""Contrastive loss with any set of positives."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class SupConLoss(nn.Module):
    r"""Pull every embedding towards its positives, out of all the others (SupCon, eq. 2).

    .. math:: \mathcal{L} = \operatorname{mean}_{i : P(i) \neq \emptyset} \frac{-1}{|P(i)|} \sum_{p \in P(i)} \log
        \frac{\exp(z_i \cdot z_p / \tau)}{\sum_{a \neq i} \exp(z_i \cdot z_a / \tau)}

    with :math:`z` the embeddings scaled to unit length. An embedding without positives is no anchor, yet repels others;
    if there is no anchor at all the loss is 0. When all embeddings are equal it is :math:`\ln(N - 1)`.
    With the other view of the same sample as the only positive it is NT-Xent.

    Args:
        temperature: :math:`\tau`; .1 in PCL and SAL.
        positives_repel: keep the other positives of an anchor in the sum below the line. Without them, as in GCL
            (Chaitanya et al., NeurIPS 2020), the sum is :math:`\exp(z_i \cdot z_p / \tau) + \sum_{a \in N(i)}
            \exp(z_i \cdot z_a / \tau)`, N(i) the embeddings that are no positives; when all are equal the loss is
            then :math:`\ln(1 + |N|)`.

    Shape:
        - embeddings: :math:`(N, D)`, of any length and any floating type.
        - positives: :math:`(N, N)` bool, row i holds :math:`P(i)`; the diagonal is ignored.
        - output: scalar, float32 or wider.

    Raises:
        ValueError: if the temperature is not positive; when called, if ``positives`` is no bool matrix (N, N).

    Reference:
        Khosla et al., Supervised Contrastive Learning, NeurIPS 2020, arXiv:2004.11362.
    """

    def __init__(self, temperature: float = 0.1, positives_repel: bool = True) -> None:
        super().__init__()
        if not temperature > 0:
            raise ValueError(f"temperature must be positive, got {temperature}; the papers take 0.1.")
        self.temperature, self.positives_repel = temperature, positives_repel

    def forward(self, embeddings: Tensor, positives: Tensor) -> Tensor:
        """Return the mean over the anchors."""
        n = len(embeddings)
        if positives.shape != (n, n) or positives.dtype != torch.bool:
            raise ValueError(
                f"positives must be a bool matrix ({n}, {n}), one row per embedding, got {positives.dtype} "
                f"{tuple(positives.shape)}; compare the labels of the embeddings with each other."
            )
        itself = torch.eye(n, dtype=torch.bool, device=embeddings.device)
        positives = positives & ~itself
        with torch.autocast(embeddings.device.type, enabled=False):
            z = F.normalize(embeddings.to(torch.promote_types(embeddings.dtype, torch.float32)), dim=1)
            logits = (z @ z.mT / self.temperature).masked_fill(itself, torch.finfo(z.dtype).min)  # (N, N)
            count = positives.sum(dim=1)  # (N)
            target = positives.to(z.dtype) / count.clamp(min=1)[:, None]  # rows without positives stay zero: no anchor
            if self.positives_repel:
                loss = F.cross_entropy(logits, target, reduction="sum")
            else:  # log(e^p + sum of the others) - p
                others = logits.masked_fill(positives, torch.finfo(z.dtype).min).logsumexp(dim=1, keepdim=True)
                loss = (target * F.softplus(others - logits.masked_fill(itself, 0))).sum()
            return loss / (count > 0).sum().clamp(min=1)
