"""Cut a random part out of every image of a batch and bring it to the image's size, on whatever device holds it."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medssl.transforms.joint_elastic import sample


class RandResizedCropBatch(nn.Module):
    """Crop every image of a batch, and its label map, by a rectangle of its own, resize it to the whole and mirror it.

    Args:
        area: smallest and largest part of the image; .2 to 1 in MoCo.
        ratio: smallest and largest width over height of the rectangle, in parts of the image's own; 3/4 to 4/3 in MoCo.
        flip: probability of mirroring left and right.

    Shape:
        - images: :math:`(B, C, H, W)`, floating; labels: :math:`(B, 1, H, W)`, of any type, or None.
        - output: the same two.

    Raises:
        ValueError: if a range is empty or a probability lies outside [0, 1].
    """

    def __init__(
        self, area: tuple[float, float] = (0.2, 1.0), ratio: tuple[float, float] = (0.75, 4 / 3), flip: float = 0.5
    ) -> None:
        super().__init__()
        check(area, ratio, flip)
        self.area, self.ratio, self.flip = area, ratio, flip

    @torch.no_grad()
    def forward(self, images: Tensor, labels: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Return both cropped alike; the draw comes from torch's default generator."""
        draws = torch.rand(5, len(images), device=images.device)
        sides = draw_sides(draws[:2], self.area, self.ratio)
        middle = sides / 2 + (1 - sides) * draws[3:]
        given = sides, middle, draws[2] < self.flip
        return crop(images, *given, "bilinear"), None if labels is None else crop(labels, *given, "nearest")


def check(area: tuple[float, float], ratio: tuple[float, float], flip: float) -> None:
    """Refuse empty ranges, and probabilities outside [0, 1]."""
    if not 0 < area[0] <= area[1] <= 1:
        raise ValueError(f"area must be a smallest and a largest part of the image, got {tuple(area)}.")
    if not 0 < ratio[0] <= ratio[1]:
        raise ValueError(f"ratio must be a positive smallest and a largest ratio, got {tuple(ratio)}.")
    if not 0 <= flip <= 1:
        raise ValueError(f"flip must be a probability, in [0, 1], got {flip}.")


def draw_sides(draws: Tensor, area: tuple[float, float], ratio: tuple[float, float]) -> Tensor:
    """Return height and width of rectangles :math:`(2, B)`, in parts of the image, from uniform draws of that shape."""
    side = (area[0] + (area[1] - area[0]) * draws[0]).sqrt()
    low, high = map(math.log, ratio)
    stretch = torch.exp(0.5 * (low + (high - low) * draws[1])).clamp(side, 1 / side)  # within the image
    return torch.stack([side / stretch, side * stretch])


def crop(images: Tensor, sides: Tensor, middle: Tensor, mirror: Tensor, mode: str) -> Tensor:
    """Cut rectangles out of images :math:`(B, C, H, W)`, bring them to the images' size and mirror some.

    Args:
        images: floating for ``"bilinear"``, of any type for ``"nearest"``.
        sides: of the rectangles :math:`(2, B)`, height first, in parts of the image.
        middle: of them, likewise.
        mirror: which are mirrored left and right :math:`(B)`.
        mode: of the interpolation.
    """
    theta = torch.zeros(len(images), 2, 3, device=images.device)
    theta[:, 0, 0], theta[:, 1, 1] = torch.where(mirror, -sides[1], sides[1]), sides[0]
    theta[:, 0, 2], theta[:, 1, 2] = 2 * middle[1] - 1, 2 * middle[0] - 1
    grid = F.affine_grid(theta, [len(images), 1, *images.shape[2:]], align_corners=False)
    return sample(images, grid, mode)
