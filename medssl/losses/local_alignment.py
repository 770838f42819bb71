"""Alignment of the local features of like slices."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class LocalAlignmentLoss(nn.Module):
    r"""Find for every local vector of a slice its like among the vectors of a like slice (SAL, eq. 1).

    .. math:: \mathcal{L}_{align}(i, j) = \operatorname{mean}_k \left(1 - \max_l\, [X_i^T X_j]_{kl}\right)

    averaged over the pairs (i, j), with :math:`X` the local vectors scaled to unit length and l restricted to the
    window of :math:`\omega^d` neighbours that holds k. Every k weighs the same; where :math:`\omega` does not divide
    the size, the last windows are smaller. When all vectors are equal the loss is 0, its minimum: by itself it
    collapses. Values at different :math:`\omega` do not compare.

    The similarities of all slices are formed at once, window by window, and the pairs picked from them: a slice is in
    many pairs, and gathering its vectors for each costs more. For the whole plane that matrix would not fit, so
    there, and only there, a loop over the slices i forms one row of it after the other.

    Args:
        window_size: :math:`\omega`, side of a window; None for the whole plane.

    Shape:
        - features: :math:`(N, C, *)`, any number of spatial dimensions up to three, any floating type.
        - pairs: :math:`(N, N)` bool, the ordered pairs (i, j); a slice with itself costs 0 and dilutes the mean. Or
          :math:`(G, N/G, N/G)`, the pairs inside each of G successive groups, such as subjects: a G-th of the work.
        - targets: as features, where the :math:`X_j` differ from the :math:`X_i`: a gradient stopped, a predictor.
        - output: scalar, float32 or wider; 0 without pairs.

    Raises:
        ValueError: if ``window_size`` is no positive whole number; when called, for features, targets or pairs of other
            shapes.

    Reference:
        Li, Ouyang, Wan, Self-Supervised Alignment Learning for Medical Image Segmentation, arXiv:2406.15699.
    """

    def __init__(self, window_size: int | None = 2) -> None:
        super().__init__()
        if window_size is not None and not (isinstance(window_size, int) and window_size >= 1):
            raise ValueError(
                f"window_size must be a positive whole number, got {window_size}; None takes the whole plane."
            )
        self.window_size = window_size

    def forward(self, features: Tensor, pairs: Tensor, targets: Tensor | None = None) -> Tensor:
        """Return the mean over the pairs."""
        targets = features if targets is None else targets
        n, sizes = len(features), features.shape[2:]
        if not 3 <= features.ndim <= 5:
            raise ValueError(f"features must be (N, C, *) with 1 to 3 spatial sizes, got {tuple(features.shape)}.")
        if targets.shape != features.shape:
            raise ValueError(f"targets must be {tuple(features.shape)} as features are, got {tuple(targets.shape)}.")
        g, m = pairs.shape[:2] if pairs.ndim == 3 else (1, n)  # groups, slices of each
        if pairs.shape not in ((m, m), (g, m, m)) or g * m != n or pairs.dtype != torch.bool:
            raise ValueError(
                f"pairs must be a bool matrix ({n}, {n}), one row per slice, or as many of such per group as give {n} "
                f"rows, got {pairs.dtype} {tuple(pairs.shape)}."
            )
        sides = [min(self.window_size or size, size) for size in sizes]
        padding = [p for size, side in zip(sizes[::-1], sides[::-1], strict=True) for p in (0, -size % side)]
        real = F.pad(features.new_ones(1, 1, *sizes, dtype=torch.float32), padding)
        if any(padding):
            # Copies of a window's own last vectors change no maximum over it; as rows they weigh nothing.
            same = targets is features
            features = F.pad(features, padding, mode="replicate")
            targets = features if same else F.pad(targets, padding, mode="replicate")
        with torch.autocast(features.device.type, enabled=False):
            x = unit(cut(features, sides, g))  # (G W, K, n, C)
            others = (x if targets is features else unit(cut(targets, sides, g))).flatten(1, 2)  # (G W, K n, C)
            anchors = [x.flatten(1, 2)] if self.window_size else x.unbind(dim=2)
            best = torch.stack([best_match(a, others, m) for a in anchors], dim=2)  # (G W, K n, 1, n) or (G, K, n, n)
            best = best.view(g, -1, x.shape[1], m, m)  # (G, W, K, n, n)
            weight = cut(real, sides).to(x.dtype)[..., 0, 0] / sizes.numel()  # (W, K)
            alignment = 1 - torch.einsum("wk,gwkij->gij", weight, best)  # (G, n, n)
            return alignment.where(pairs, 0).sum() / pairs.sum().clamp(min=1)


def unit(x: Tensor) -> Tensor:
    """Scale the vectors along the last dimension to unit length, in float32 or wider."""
    return F.normalize(x.to(torch.promote_types(x.dtype, torch.float32)), dim=-1)


def cut(features: Tensor, sides: Sequence[int], groups: int = 1) -> Tensor:
    """Cut the maps ``(G n, C, *)`` of G groups into W windows of K positions: ``(G W, K, n, C)``."""
    for dim, side in enumerate(sides):
        features = features.unflatten(2 + 2 * dim, (-1, side))  # (G n, C, windows, side, windows, side, ...)
    features = features.unflatten(0, (groups, -1))  # (G, n, C, windows, side, ...)
    order = [0, *range(3, features.ndim, 2), *range(4, features.ndim, 2), 1, 2]
    features = features.permute(order)  # (G, windows, windows, ..., side, side, ..., n, C)
    return features.flatten(0, len(sides)).flatten(1, len(sides))


def best_match(anchors: Tensor, others: Tensor, n: int) -> Tensor:
    """Greatest similarity of every anchor ``(W, A, C)`` in its window ``(W, K n, C)`` of n slices: ``(W, A, n)``."""
    gram = (anchors @ others.mT).unflatten(2, (-1, n))  # (W, A, K, n)
    return gram.max(dim=2).values  # the backward pass of max keeps indices, that of amax the whole gram
