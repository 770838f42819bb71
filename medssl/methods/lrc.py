"""Localized region contrast: a super-pixel finds itself in a deformed view of its image."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medssl.losses import LocalRegionContrastLoss
from medssl.methods.spread import collapse_metrics


class LRC(nn.Module):
    """Pre-train an encoder and a decoder by the contrast of regions between two views.

    Args:
        encoder: image to list of features, finest first.
        decoder: that list to one map at the image's size, 64 channels in the paper.
        contrast: loss of the two maps and their regions.

    Shape:
        - batch: ``view_1``, ``view_2`` :math:`(n, C, *)`; ``regions_1``, ``regions_2`` :math:`(n, 1, *)` integers,
          numbered alike; ``num_regions``, an int, one more than the largest number.
        - output: scalars ``loss``; ``regions``, how many an image has in both views; ``retrieval``, the share of them
          that are nearest to themselves in the other view; ``to_collapse``, the loss over what it is where all regions
          are alike; ``spread`` and effective ``rank`` of the regions of an image; ``norm`` of the features, to which
          the loss is blind.

    Reference:
        Yan et al., Localized Region Contrast for Enhancing Self-Supervised Learning in Medical Image Segmentation,
        arXiv:2304.03406.
    """

    def __init__(self, encoder: nn.Module, decoder: nn.Module, contrast: LocalRegionContrastLoss) -> None:
        super().__init__()
        self.encoder, self.decoder, self.contrast = encoder, decoder, contrast

    def forward(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        """Return the loss and what is worth watching."""
        maps = [self.decoder(self.encoder(batch[view])) for view in ("view_1", "view_2")]
        regions = [batch[name] for name in ("regions_1", "regions_2")]
        q, p, kept = self.contrast.means(maps[0], regions[0], maps[1], regions[1], batch["num_regions"])
        loss = self.contrast.contrast(q, p, kept)
        to_collapse = loss.detach() / self.contrast.collapsed(kept).clamp(min=torch.finfo(loss.dtype).tiny)
        norm = torch.linalg.vector_norm(maps[0].detach(), dim=1, dtype=q.dtype).mean()
        return {"loss": loss, "to_collapse": to_collapse, **watch(q, p, kept), "norm": norm}


@torch.no_grad()
def watch(q: Tensor, p: Tensor, kept: Tensor) -> dict[str, Tensor]:
    """Return the scalars that tell of regions ``(B, K, D)``, out of those that both views have ``(B, K)``."""
    # Outside of autocast: in half precision neighbours tie, and the first of them is taken for the nearest.
    with torch.autocast(q.device.type, enabled=False):
        similarity = F.normalize(q, dim=2) @ F.normalize(p, dim=2).mT  # (B, K, K)
    nearest = similarity.masked_fill(~kept[:, None], -2).argmax(dim=2)
    found = (nearest == torch.arange(nearest.shape[1], device=nearest.device)) & kept
    retrieval = found.sum() / kept.sum().clamp(min=1)
    alone = torch.where(kept[..., None], q, 0)  # what is nobody's has no direction
    return {"retrieval": retrieval, "regions": kept.sum() / len(kept), **collapse_metrics(alone)}
