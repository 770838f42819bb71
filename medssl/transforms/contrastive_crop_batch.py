"""Random crops around what a network looks at."""

import torch
from torch import Tensor, nn

from medssl.transforms.resized_crop_batch import check, crop, draw_sides


class RandContrastiveCropBatch(nn.Module):
    r"""Crop every image of a batch by a rectangle around a place in its box, resize it to the whole and mirror it.

    As :py:class:`RandResizedCropBatch`, but for where the rectangle lies: its middle is a draw of
    :math:`\operatorname{Beta}(a, a)` along each side of the box, which below a = 1 prefers the box's borders, so that
    two crops share little but the object. The box is first narrowed to the middles whose rectangle lies within the
    image, as in the authors' code. An image whose box is empty is cropped as by :py:class:`RandResizedCropBatch`.

    Args:
        area, ratio, flip: see :py:class:`RandResizedCropBatch`.
        concentration: a, .6 for ImageNet and .1 for CIFAR.

    Shape:
        - images: :math:`(B, C, H, W)`, floating; boxes: :math:`(B, 4)`, top, left, bottom and right in parts of the
          image.
        - output: as the images.

    Raises:
        ValueError: if a range is empty, a probability lies outside [0, 1] or the concentration is not positive.

    Reference:
        Peng et al., Crafting Better Contrastive Views for Siamese Representation Learning, CVPR 2022, arXiv:2202.03278.
    """

    def __init__(
        self,
        area: tuple[float, float] = (0.2, 1.0),
        ratio: tuple[float, float] = (0.75, 4 / 3),
        flip: float = 0.5,
        concentration: float = 0.6,
    ) -> None:
        super().__init__()
        check(area, ratio, flip)
        if concentration <= 0:
            raise ValueError(f"concentration must be positive, got {concentration}; the paper takes 0.6 and 0.1.")
        self.area, self.ratio, self.flip, self.concentration = area, ratio, flip, concentration

    @torch.no_grad()
    def forward(self, images: Tensor, boxes: Tensor) -> Tensor:
        """Return the crops; the draw comes from torch's default generator."""
        draws = torch.rand(5, len(images), device=images.device)
        sides = draw_sides(draws[:2], self.area, self.ratio)  # (2, B), height and width
        beta = torch.distributions.Beta(*torch.full((2, 2, len(images)), self.concentration, device=images.device))
        lowest, highest = sides / 2, 1 - sides / 2  # of a middle whose rectangle is within the image
        first, last = (torch.clamp(edge, lowest, highest) for edge in (boxes[:, :2].T, boxes[:, 2:].T))
        inside = first + (last - first) * beta.sample()
        anywhere = lowest + (highest - lowest) * draws[3:]
        middle = torch.where(boxes[:, 2] > boxes[:, 0], inside, anywhere)  # (2, B)
        return crop(images, sides, middle, mirror=draws[2] < self.flip, mode="bilinear")
