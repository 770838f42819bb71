"""Shuffle the pixels of small windows of every image of a batch, on whatever device holds it."""

import torch
from torch import Tensor, nn


class RandLocalShuffleBatch(nn.Module):
    """Shuffle pixels within windows that tile the image; their size and offset are drawn for every image.

    Models Genesis shuffles 10,000 windows of all sizes one after the other, which overlap. This is an approximation
    without a loop: windows of one size an image, side by side, and no pixel is lost.

    Args:
        probability: of shuffling, .5 in Models Genesis.
        largest: side of the largest window in parts of the image's, a tenth there.

    Shape:
        - images: :math:`(B, C, *)`; output alike, the channels shuffled together.

    Reference:
        Zhou et al., Models Genesis, Medical Image Analysis 2021, arXiv:2004.07882.
    """

    def __init__(self, probability: float = 0.5, largest: float = 0.1) -> None:
        super().__init__()
        if not 0 <= probability <= 1:
            raise ValueError(f"probability must lie in [0, 1], got {probability}.")
        if not 0 < largest <= 1:
            raise ValueError(f"largest must be a part of the side, in (0, 1], got {largest}.")
        self.probability, self.largest = probability, largest

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """Return the shuffled batch; the draw comes from torch's default generator."""
        count, size, device = len(images), images.shape[2:], images.device
        window = torch.zeros(count, *[1] * len(size), dtype=torch.long, device=device)
        for axis, pixels in enumerate(size):
            draws = torch.rand(2, count, 1, device=device)
            side = 1 + (max(1.0, self.largest * pixels) - 1) * draws[0]  # (B, 1)
            number = ((torch.arange(pixels, device=device) + side * draws[1]) / side).long()  # (B, pixels)
            shape = (count, *[pixels if other == axis else 1 for other in range(len(size))])
            window = window * (pixels + 2) + number.view(shape)
        window = window.flatten(1)  # (B, S)
        window = torch.where(torch.rand(count, 1, device=device) < self.probability, window, self.alone(window))
        # Both orders list window after window, the second with the pixels of each in an order of their own.
        into = window.argsort(dim=1, stable=True)
        out_of = (window + torch.rand(window.shape, dtype=torch.float64, device=device)).argsort(dim=1)
        flat = images.flatten(2)
        places, sources = (order[:, None].expand_as(flat) for order in (into, out_of))
        return torch.empty_like(flat).scatter_(2, places, flat.gather(2, sources)).view_as(images)

    @staticmethod
    def alone(window: Tensor) -> Tensor:
        """Return windows of one pixel: nothing is shuffled."""
        return torch.arange(window.shape[1], device=window.device).expand_as(window)
