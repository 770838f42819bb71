"""Mirror, turn, scale and bend a whole batch of slices at once, on whatever device holds it."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medssl.transforms.rotation import rotation


class RandSpatialBatch(nn.Module):
    """Deform every slice of a batch by its own random map, or all slices of a group by one.

    One bilinear sampling does it all: mirroring, rotation, scaling, and a smooth displacement whose control points lie
    ``bend_spacing`` pixels apart. Outside the slice there is zero: subtract the mean first. The defaults
    are those of the PCL reference at 352 x 352 pixels (Zeng et al. 2021): mirroring of both axes, and in two thirds of
    the draws any rotation, scales .7 to 1.3 and an elastic deformation; its alpha of 100 to 350 at sigma of 14 to 17
    displaces by 1 to 4 pixels (standard deviation). It alters no intensities, and neither does this. What takes regions
    along, and bends within a largest displacement, is :py:class:`medssl.transforms.RandJointElasticBatch`.

    Args:
        shared: one map for all slices of a group (a subject's slices of one view), instead of one for each slice.
        probability: of rotating, scaling and bending; mirroring is drawn apart from it.
        rotation: largest angle, radians, either way.
        scale: smallest and largest magnification of the anatomy.
        bend: smallest and largest standard deviation of the control points' displacement, pixels; that of the pixels
            between them is about five sixths of it.
        bend_spacing: distance of the control points, pixels.

    Shape:
        - images: :math:`(B, C, H, W)`.
        - groups: :math:`(B)` integers, numbered from 0; needed when ``shared``.
        - output: as images.
    """

    def __init__(
        self,
        shared: bool = False,
        probability: float = 0.67,
        rotation: float = math.pi,
        scale: tuple[float, float] = (0.7, 1.3),
        bend: tuple[float, float] = (1.0, 4.0),
        bend_spacing: float = 15.0,
    ) -> None:
        super().__init__()
        if not 0 <= probability <= 1:
            raise ValueError(f"probability must lie in [0, 1], got {probability}.")
        if not 0 < scale[0] <= scale[1]:
            raise ValueError(f"scale must be a positive smallest and a largest factor, got {tuple(scale)}.")
        if rotation < 0 or bend_spacing <= 0:
            raise ValueError(f"rotation must be 0 or more, bend_spacing positive, got {rotation} and {bend_spacing}.")
        if not 0 <= bend[0] <= bend[1]:
            raise ValueError(f"bend must be a smallest and a largest displacement, 0 or more, got {tuple(bend)}.")
        self.shared, self.probability, self.rotation = shared, probability, rotation
        self.scale, self.bend, self.bend_spacing = scale, bend, bend_spacing

    @torch.no_grad()
    def forward(self, images: Tensor, groups: Tensor | None = None) -> Tensor:
        """Return the deformed batch; the draw comes from torch's default generator."""
        if self.shared and groups is None:
            raise ValueError("shared deformations need to know each slice's group, got None; pass groups, (B).")
        grid = self.draw(len(images), images.shape[-2], images.shape[-1], images.device)  # (B, H, W, 2)
        if self.shared and groups is not None:
            grid = grid[groups]
        return F.grid_sample(images, grid.to(images.dtype), mode="bilinear", padding_mode="zeros", align_corners=False)

    def draw(self, count: int, height: int, width: int, device: torch.device) -> Tensor:
        """Draw sampling grids ``(count, height, width, 2)`` in the units of ``grid_sample``."""

        def uniform(low: float, high: float) -> Tensor:
            return torch.empty(count, device=device).uniform_(low, high)

        happens = torch.rand(count, device=device) < self.probability  # (count,)
        angle = uniform(-self.rotation, self.rotation) * happens
        zoom = torch.where(happens, uniform(*self.scale), torch.ones_like(angle)).reciprocal()
        mirror = torch.randint(2, (2, count), device=device).T * 2 - 1  # (count, 2)
        turn = rotation(angle.cos() * zoom, angle.sin() * zoom, height, width)  # (count, 2, 2)
        theta = F.pad(turn * mirror[:, :, None], (0, 1))  # (count, 2, 3), no translation
        grid = F.affine_grid(theta, [count, 1, height, width], align_corners=False)
        points = [max(2, round(side / self.bend_spacing) + 1) for side in (height, width)]
        field = F.interpolate(
            torch.randn(count, 2, *points, device=device), (height, width), mode="bicubic", align_corners=True
        )
        strength = uniform(*self.bend) * happens  # pixels
        x, y = (field * strength[:, None, None, None] * 2).unbind(dim=1)
        return grid + torch.stack([x / width, y / height], dim=-1)
