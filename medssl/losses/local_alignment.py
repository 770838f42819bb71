"""Alignment of the local features of like slices."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class LocalAlignmentLoss(nn.Module):
    r"""Find for every local vector of a slice its like among the vectors of a like slice (SAL, eq. 1).

    .. math:: \mathcal{L}_{align}(i, j) = \operatorname{mean}_k \left(1 - \max_l\, [X_i^T X_j]_{kl}\right)

    averaged over the pairs (i, j), with :math:`X` the local vectors scaled to unit length and l restricted to the
    window of :math:`\omega^d` neighbours that holds k. Every k weighs the same; where :math:`\omega` does not divide the
    size, the last windows are smaller. When all vectors are equal the loss is 0, its minimum: by itself it collapses.
    Values at different :math:`\omega` do not compare.

    The similarities of all N slices are formed at once, window by window, and the pairs picked from them: a slice is in
    many pairs, and gathering its vectors for each costs more. For the whole plane that matrix would not fit, so
    there, and only there, a loop over the N slices i forms one row of it after the other.

    Args:
        window_size: :math:`\omega`, side of a window; None for the whole plane.

    Shape:
        - features: :math:`(N, C, *)`, any number of spatial dimensions up to three, any floating type.
        - pairs: :math:`(N, N)` bool, the ordered pairs (i, j); a slice with itself costs 0 and dilutes the mean.
        - output: scalar, float32 or wider; 0 without pairs.

    Reference:
        Li, Ouyang, Wan, Self-Supervised Alignment Learning for Medical Image Segmentation, arXiv:2406.15699.
    """

    def __init__(self, window_size: int | None = 2) -> None:
        super().__init__()
        if window_size is not None and (window_size < 1 or window_size != int(window_size)):
            raise ValueError(
                f"window_size must be a positive whole number, got {window_size}; None takes the whole plane."
            )
        self.window_size = window_size

    def forward(self, features: Tensor, pairs: Tensor) -> Tensor:
        """Return the mean over the pairs."""
        n, sizes = len(features), features.shape[2:]
        if not 3 <= features.ndim <= 5:
            raise ValueError(f"features must be (N, C, *) with 1 to 3 spatial sizes, got {tuple(features.shape)}.")
        if pairs.shape != (n, n) or pairs.dtype != torch.bool:
            raise ValueError(
                f"pairs must be a bool matrix ({n}, {n}), one row per slice, got {pairs.dtype} {tuple(pairs.shape)}."
            )
        sides = [min(self.window_size or size, size) for size in sizes]
        padding = [p for size, side in zip(sizes[::-1], sides[::-1], strict=True) for p in (0, -size % side)]
        real = F.pad(features.new_ones(1, 1, *sizes, dtype=torch.float32), padding)
        if any(padding):
            # Copies of a window's own last vectors change no maximum over it; as rows they weigh nothing.
            features = F.pad(features, padding, mode="replicate")
        with torch.autocast(features.device.type, enabled=False):
            x = cut(features, sides)  # (W, K, N, C)
            x = F.normalize(x.to(torch.promote_types(x.dtype, torch.float32)), dim=-1)
            anchors = [x] if self.window_size else x.split(1, dim=2)
            best = torch.cat([best_match(a, x) for a in anchors], dim=2)  # (W, K, N, N)
            weight = cut(real, sides).to(x.dtype)[..., 0, 0] / sizes.numel()  # (W, K)
            alignment = 1 - torch.einsum("wk,wkij->ij", weight, best)  # (N, N)
            return alignment.where(pairs, 0).sum() / pairs.sum().clamp(min=1)


def cut(features: Tensor, sides: Sequence[int]) -> Tensor:
    """Cut maps ``(N, C, *)`` into W windows of K positions: ``(W, K, N, C)``."""
    for dim, side in enumerate(sides):
        features = features.unflatten(2 + 2 * dim, (-1, side))  # (N, C, windows, side, windows, side, ...)
    order = [*range(2, features.ndim, 2), *range(3, features.ndim, 2), 0, 1]
    features = features.permute(order)  # (windows, windows, ..., side, side, ..., N, C)
    return features.flatten(0, len(sides) - 1).flatten(1, len(sides))


def best_match(anchors: Tensor, features: Tensor) -> Tensor:
    """Greatest similarity of every anchor vector ``(W, K, n, C)`` in its window of every slice: ``(W, K, n, N)``."""
    gram = anchors.flatten(1, 2) @ features.flatten(1, 2).mT  # (W, K n, K N)
    best = gram.unflatten(2, features.shape[1:3]).max(dim=2).values  # (W, K n, N); max keeps indices, amax the gram
    return best.unflatten(1, anchors.shape[1:3])
