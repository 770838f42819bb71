"""Contrastive loss whose positives are slices at like places of their volumes."""

from fractions import Fraction

from torch import Tensor, nn

from medssl.losses.sup_con import SupConLoss

FINEST = 10**6  # largest denominator of a threshold: its products with depths up to 10**6 fit 64 bits


class GlobalPositionalLoss(nn.Module):
    r"""Pull slices at like relative positions together, of whichever volume and view (SAL, eq. 2; PCL).

    .. math:: \mathcal{L}_{pos,i} = -\frac{1}{|P_i|} \sum_{j \in P_i} \log
        \frac{e^{\cos(f_i, f_j) / T}}{\sum_{q \neq i} e^{\cos(f_i, f_q) / T}},
        \qquad P_i = \{j \neq i : |i / V_i - j / V_j| < t\}

    averaged over the 2n slices of a batch. When all embeddings are equal the loss is :math:`\ln(2n - 1)`.

    Args:
        threshold: t, compared exactly: a float is taken at its printed value, .35 as 7/20. The SAL paper gives none;
            PCL takes .35 for ACDC and .1 for CHD.
        temperature: T.
        base_temperature: None for the formula above; b multiplies it by T / b. The PCL reference code has b = .07, so
            with T = .1 its loss is 1.4285714 times the formula, and ln(2n - 1) with it.

    Shape:
        - embeddings: :math:`(2n, D)`.
        - index, depth: :math:`(2n)` integers, the place i of a slice and the number V of slices of its volume.
        - output: scalar, float32 or wider.

    Raises:
        ValueError: if the threshold or a temperature is not positive; when called, if ``index`` and ``depth`` are no
            integers.

    Reference:
        Li, Ouyang, Wan, Self-Supervised Alignment Learning for Medical Image Segmentation, arXiv:2406.15699.
        Zeng et al., Positional Contrastive Learning for Volumetric Medical Image Segmentation, MICCAI 2021.
    """

    def __init__(
        self, threshold: float | Fraction, temperature: float = 0.1, base_temperature: float | None = None
    ) -> None:
        super().__init__()
        if base_temperature is not None and not base_temperature > 0:
            raise ValueError(f"base_temperature must be positive, got {base_temperature}; None leaves it out.")
        self.threshold = exact_threshold(threshold)
        self.contrast = SupConLoss(temperature)
        self.scale = 1.0 if base_temperature is None else temperature / base_temperature

    def forward(self, embeddings: Tensor, index: Tensor, depth: Tensor) -> Tensor:
        """Return the mean over the slices."""
        loss: Tensor = self.contrast(embeddings, positional_pairs(index, depth, self.threshold))
        return self.scale * loss


def exact_threshold(threshold: float | Fraction) -> Fraction:
    """Return a threshold as the fraction that its printed digits say, .35 as 7/20, .30000000000000004 as 3/10.

    Raises:
        ValueError: if it is no positive distance.
    """
    if not 1 / FINEST <= threshold < float("inf"):
        raise ValueError(
            f"threshold must be positive, {1 / FINEST:.0e} at least, got {threshold}; give the distance below "
            "which relative positions in [0, 1) count as the same, such as 0.35."
        )
    return Fraction(str(threshold)).limit_denominator(FINEST)


def positional_pairs(index: Tensor, depth: Tensor, threshold: Fraction) -> Tensor:
    r"""Return which slices are less than t apart in relative position, in integers: floats misjudge a distance of t.

    .. math:: |i / V_i - j / V_j| < p / q \iff q \, |i V_j - j V_i| < p \, V_i V_j

    Shape:
        - index, depth: :math:`(N)` integers; output: :math:`(N, N)` bool, true on the diagonal.
    """
    if index.is_floating_point() or depth.is_floating_point():
        raise ValueError(
            f"index and depth must be integers, got {index.dtype} and {depth.dtype}; give the slice's number and the "
            "number of slices, not their ratio."
        )
    index, depth = index.long(), depth.long()
    scaled = threshold.denominator * index[:, None] * depth  # (N, N), q i V_j
    return (scaled - scaled.mT).abs() < threshold.numerator * depth[:, None] * depth
