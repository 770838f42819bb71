"""Bend the intensities of every image of a batch along a Bézier curve, on whatever device holds it."""

import torch
from torch import Tensor, nn

POINTS = 256  # of a curve, between which it is straight


class RandBezierBatch(nn.Module):
    r"""Map intensities by a monotonous cubic Bézier curve from (0, 0) to (1, 1), or in half of the draws downwards.

    .. math:: B(t) = 3 (1 - t)^2 t\, P_1 + 3 (1 - t) t^2\, P_2 + t^3\, (1, 1)

    with :math:`P_1` and :math:`P_2` drawn uniformly from the unit square, and both coordinates sorted along the curve.

    Args:
        probability: of bending, .9 in Models Genesis.

    Shape:
        - images: :math:`(B, C, *)`, in [0, 1]; output alike.

    Reference:
        Zhou et al., Models Genesis, Medical Image Analysis 2021, arXiv:2004.07882.
    """

    def __init__(self, probability: float = 0.9) -> None:
        super().__init__()
        if not 0 <= probability <= 1:
            raise ValueError(f"probability must lie in [0, 1], got {probability}.")
        self.probability = probability

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """Return the bent batch; the draw comes from torch's default generator."""
        count, device = len(images), images.device
        t = torch.linspace(0, 1, POINTS, device=device)
        first, second = torch.rand(2, 2, count, 1, device=device)  # (2, B, 1) each, x and y
        curve = 3 * (1 - t) ** 2 * t * first + 3 * (1 - t) * t**2 * second + t**3  # (2, B, T)
        x, y = curve.sort(dim=2).values
        happens, falls = torch.rand(2, count, 1, device=device)
        y = torch.where(falls < 0.5, y.flip(1), y)
        values = images.flatten(1)  # (B, N)
        right = torch.searchsorted(x, values.to(x.dtype).contiguous()).clamp(1, POINTS - 1)
        x_0, x_1, y_0, y_1 = (line.gather(1, at) for line in (x, y) for at in (right - 1, right))
        part = ((values - x_0) / (x_1 - x_0).clamp(min=1e-8)).clamp(0, 1)
        bent = (y_0 + part * (y_1 - y_0)).to(images.dtype)
        return torch.where(happens < self.probability, bent, values).view_as(images)
