"""Contrast of regions: the same super-pixel of two views is alike, every other one is not."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class LocalRegionContrastLoss(nn.Module):
    r"""Pull the same region of two views together and all other regions of the image away (LRC, section 2.1).

    .. math:: \mathcal{L}_l = -\sum_{k_1} \log \frac{\exp(\bar f_q^{k_1} \cdot \bar f_p^{k_1} / \tau)}
        {\sum_{k_2} \exp(\bar f_q^{k_1} \cdot \bar f_q^{k_2} / \tau) + \exp(\bar f_q^{k_1} \cdot \bar f_p^{k_2} / \tau)}

    with :math:`\bar f^k` the mean of N vectors drawn uniformly, with replacement, from region k, independently in each
    view. The query alone is anchor; the gradient goes through both views. A region that only one view has, because a
    deformation removed it from the other, is left out. Negatives never come from another image. When all means are
    equal the loss of each of K regions is :math:`\ln 2K`, without the self term :math:`\ln(2K - 1)`; as printed, with
    scaled means, it cannot fall below :math:`\ln 2`.

    Args:
        num_samples: N, 50 in the paper; None takes the mean of the whole region.
        temperature: :math:`\tau`; the paper gives none, .1 is that of GCL and PCL.
        include_self: keep :math:`k_2 = k_1` among the query's own terms, as the equation is printed; the prose leaves
            it out.
        normalize: scale the means to unit length; the paper says only "dot product".
        region_reduction: ``"sum"`` over the regions of an image, as printed, or ``"mean"``.

    Shape:
        - query, positive: :math:`(B, D, *)`, any number of spatial dimensions, any floating type; fastest where the
          channels lie last in memory.
        - query_regions, positive_regions: :math:`(B, 1, *)` integers, numbered alike in both; negative ones belong
          to no region.
        - num_regions: one more than the largest number in either map, or any upper bound of it: regions numbered from
          there on are left out. None reads it off the maps, for which a GPU has to wait.
        - output: scalar, float32 or wider, mean over the images; 0 where no region is left.

    Raises:
        ValueError: if a setting makes no loss, or the regions are no integers of the features' size.

    Reference:
        Yan et al., Localized Region Contrast for Enhancing Self-Supervised Learning in Medical Image Segmentation,
        arXiv:2304.03406.
    """

    def __init__(
        self,
        num_samples: int | None = 50,
        temperature: float = 0.1,
        include_self: bool = True,
        normalize: bool = True,
        region_reduction: str = "sum",
    ) -> None:
        super().__init__()
        if num_samples is not None and num_samples < 1:
            raise ValueError(f"num_samples must be at least 1, or None for whole regions, got {num_samples}.")
        if temperature <= 0:
            raise ValueError(f"temperature must be positive, got {temperature}.")
        if region_reduction not in ("sum", "mean"):
            raise ValueError(f"region_reduction must be sum or mean, got {region_reduction!r}.")
        self.num_samples, self.temperature = num_samples, temperature
        self.include_self, self.normalize, self.region_reduction = include_self, normalize, region_reduction

    def forward(
        self,
        query: Tensor,
        query_regions: Tensor,
        positive: Tensor,
        positive_regions: Tensor,
        num_regions: int | None = None,
    ) -> Tensor:
        """Return the mean over the images."""
        return self.contrast(*self.means(query, query_regions, positive, positive_regions, num_regions))

    def means(
        self,
        query: Tensor,
        query_regions: Tensor,
        positive: Tensor,
        positive_regions: Tensor,
        num_regions: int | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the means of both views :math:`(B, K, D)`, and which regions both have :math:`(B, K)`."""
        if query.shape[:2] != positive.shape[:2]:
            raise ValueError(
                f"query and positive must have as many images and channels, got {tuple(query.shape)} and "
                f"{tuple(positive.shape)}."
            )
        if num_regions is None:
            num_regions = 1 + int(torch.maximum(query_regions.max(), positive_regions.max()))
        k = max(num_regions, 1)
        q, in_q = region_means(query, query_regions, k, self.num_samples)  # (B, K, D), (B, K)
        p, in_p = region_means(positive, positive_regions, k, self.num_samples)
        return q, p, in_q & in_p

    def contrast(self, q: Tensor, p: Tensor, kept: Tensor) -> Tensor:
        """Return the loss of what :py:meth:`means` gives."""
        k = kept.shape[1]
        if self.normalize:
            q, p = F.normalize(q, dim=2), F.normalize(p, dim=2)
        columns = torch.cat([kept, kept], dim=1)[:, None].repeat(1, k, 1)  # (B, K, 2K)
        if not self.include_self:
            columns[..., k:].diagonal(dim1=1, dim2=2).fill_(False)
        # Outside of autocast, which would form the logits in half precision.
        with torch.autocast(q.device.type, enabled=False):
            logits = q @ torch.cat([p, q], dim=1).mT / self.temperature  # (B, K, 2K)
        logits = logits.masked_fill(~columns, torch.finfo(logits.dtype).min)
        own = torch.arange(k, device=q.device).expand(len(q), k)  # a region's positive is its own column
        losses = F.cross_entropy(logits.flatten(0, 1), own.flatten(), reduction="none").view_as(kept) * kept
        totals = losses.sum(dim=1)  # (B,)
        if self.region_reduction == "mean":
            totals = totals / kept.sum(dim=1).clamp(min=1)
        return totals.mean()

    def collapsed(self, kept: Tensor) -> Tensor:
        """Return the loss if all means were equal, by which regions both views have :math:`(B, K)`."""
        count = kept.sum(dim=1)
        alike = (2 * count - (0 if self.include_self else 1)).clamp(min=1).log()
        return (alike if self.region_reduction == "mean" else count * alike).mean()


def region_means(features: Tensor, regions: Tensor, num_regions: int, num_samples: int | None) -> tuple[Tensor, Tensor]:
    """Average the features over every region, or over vectors drawn in it.

    Args:
        features: :math:`(B, D, *)`.
        regions: :math:`(B, 1, *)` integers; those below 0 or from ``num_regions`` on are nobody's.
        num_regions: K.
        num_samples: vectors drawn per region, uniformly and with replacement; None takes all.

    Returns:
        Means :math:`(B, K, D)`, float32 or wider, and whether the region exists :math:`(B, K)`; the mean of one that
        does not is meaningless, but finite.
    """
    if regions.shape != (len(features), 1, *features.shape[2:]) or regions.is_floating_point():
        raise ValueError(
            f"regions must be integers {(len(features), 1, *features.shape[2:])}, one per vector of the features, "
            f"got {regions.dtype} {tuple(regions.shape)}."
        )
    regions = regions.flatten(1).int()  # (B, S)
    if num_samples is None:
        return whole_region_means(features.flatten(2), regions, num_regions)
    # One sort of the whole batch groups positions by image and region, numbered from 1; 0 and K + 1 are nobody's.
    image = torch.arange(len(regions), device=regions.device, dtype=torch.int32)[:, None] * (num_regions + 2)
    numbers = torch.arange(1, num_regions + 2, device=regions.device, dtype=torch.int32)
    regions, order = (regions.clamp(-1, num_regions) + (image + 1)).flatten().sort()  # (B S)
    edges = torch.searchsorted(regions, image + numbers)  # (B, K + 1)
    start, count = edges[:, :-1], edges.diff(dim=1)  # (B, K)
    # A draw lies below 1 by at least 2^-24: its product with a count rounds to less than the count.
    draws = (torch.rand(*count.shape, num_samples, device=features.device) * count[..., None]).long()
    # A lost region's place is that of the next position, which its image may not have.
    places = (start[..., None] + draws).flatten().clamp(max=len(order) - 1)  # (B K N)
    vectors = take(features, order.index_select(0, places).view(len(features), -1)).unflatten(
        1, (num_regions, num_samples)
    )
    return vectors.mean(dim=2, dtype=torch.promote_types(vectors.dtype, torch.float32)), count > 0


def whole_region_means(features: Tensor, regions: Tensor, num_regions: int) -> tuple[Tensor, Tensor]:
    """Average features :math:`(B, D, S)` over whole regions :math:`(B, S)`; returns as :py:func:`region_means`."""
    real = (regions >= 0) & (regions < num_regions)
    column = torch.where(real, regions, num_regions).long()  # the last one collects what is nobody's
    count = regions.new_zeros(len(regions), num_regions + 1, dtype=torch.float32)
    count = count.scatter_add(1, column, real.float())
    features = features.to(torch.promote_types(features.dtype, torch.float32))
    sums = features.new_zeros(*features.shape[:2], num_regions + 1)
    sums = sums.scatter_add(2, column[:, None].expand_as(features), features)  # (B, D, K + 1)
    means = sums / count.clamp(min=1)[:, None]
    return means[..., :-1].mT, count[:, :-1] > 0


def take(features: Tensor, positions: Tensor) -> Tensor:
    """Return vectors of features :math:`(B, D, *)`: :math:`(B, P, D)`.

    Args:
        features: whose vectors are taken.
        positions: :math:`(B, P)`, counted through all images of the batch.
    """
    rows = features.movedim(1, -1)
    if rows.is_contiguous():  # a vector is one row of memory
        return rows.flatten(0, -2).index_select(0, positions.flatten()).unflatten(0, positions.shape)
    flat = features.flatten(2)  # (B, D, S)
    index = (positions % flat.shape[2])[:, None].expand(-1, flat.shape[1], -1)
    return flat.gather(2, index).mT
