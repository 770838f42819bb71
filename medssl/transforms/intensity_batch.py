"""Change brightness, contrast and sharpness of a whole batch at once, on whatever device holds it."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class RandIntensityBatch(nn.Module):
    r"""Jitter every image of a batch by draws of its own: what is left of MoCo's colours where there is one channel.

    Contrast spreads the intensities about their mean, brightness adds to them, both in parts of the image's standard
    deviation :math:`\sigma`; then some images are blurred.

    .. math:: x' = \bar x + c\,(x - \bar x) + b\,\sigma, \qquad c \sim U(1 - C, 1 + C),\; b \sim U(-B, B)

    Args:
        brightness: B.
        contrast: C, below 1.
        probability: of changing brightness and contrast; .8 in MoCo v2.
        blur: smallest and largest standard deviation of the Gaussian, pixels.
        blur_probability: of blurring; .5 in MoCo v2.

    Shape:
        - images: :math:`(B, C, H, W)`, output alike.

    Raises:
        ValueError: if a probability lies outside [0, 1] or a range is empty, or the images are no batch of slices.
    """

    def __init__(
        self,
        brightness: float = 0.4,
        contrast: float = 0.4,
        probability: float = 0.8,
        blur: tuple[float, float] = (0.1, 2.0),
        blur_probability: float = 0.5,
    ) -> None:
        super().__init__()
        if brightness < 0 or not 0 <= contrast < 1:
            raise ValueError(
                f"brightness must not be negative and contrast lie in [0, 1), got {brightness} and {contrast}."
            )
        if not (0 <= probability <= 1 and 0 <= blur_probability <= 1):
            raise ValueError(f"probabilities must lie in [0, 1], got {probability} and {blur_probability}.")
        if not 0 < blur[0] <= blur[1]:
            raise ValueError(f"blur must be a positive smallest and a largest deviation, got {tuple(blur)}.")
        self.brightness, self.contrast, self.probability = brightness, contrast, probability
        self.blur, self.blur_probability = blur, blur_probability

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """Return the changed batch; the draw comes from torch's default generator."""
        if images.ndim != 4:
            raise ValueError(f"images must be a batch of slices (B, C, H, W), got {tuple(images.shape)}.")
        count = len(images)
        draws = torch.rand(5, count, 1, 1, 1, device=images.device, dtype=images.dtype)
        happens = draws[0] < self.probability
        contrast = 1 + self.contrast * (2 * draws[1] - 1) * happens
        brightness = self.brightness * (2 * draws[2] - 1) * happens
        axes = (1, 2, 3)
        mean, deviation = images.mean(dim=axes, keepdim=True), images.std(dim=axes, keepdim=True)
        images = mean + contrast * (images - mean) + brightness * deviation
        if self.blur_probability == 0:
            return images
        sigma = self.blur[0] + (self.blur[1] - self.blur[0]) * draws[3].view(count)
        blurred = gaussian_blur(images, sigma, radius=round(3 * self.blur[1]))
        return torch.where(draws[4] < self.blur_probability, blurred, images)


def gaussian_blur(images: Tensor, sigma: Tensor, radius: int) -> Tensor:
    """Blur images :math:`(B, C, H, W)`, each with a Gaussian of its own :math:`(B)`; the border repeats."""
    count, channels, height, width = images.shape
    distance = torch.arange(-radius, radius + 1, device=images.device)
    kernels = torch.exp(-0.5 * (distance / sigma[:, None]) ** 2)
    kernels = (kernels / kernels.sum(dim=1, keepdim=True)).to(images.dtype).repeat_interleave(channels, dim=0)
    maps = F.pad(images, [radius] * 4, mode="replicate").view(1, count * channels, height + 2 * radius, -1)
    maps = F.conv2d(maps, kernels[:, None, :, None], groups=count * channels)
    maps = F.conv2d(maps, kernels[:, None, None, :], groups=count * channels)
    return maps.view(count, channels, height, width)
