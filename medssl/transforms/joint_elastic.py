"""One elastic deformation for images and label maps alike."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from monai.config import KeysCollection
from monai.config.type_definitions import NdarrayOrTensor
from monai.transforms import MapTransform, RandomizableTransform
from monai.utils import convert_to_dst_type, convert_to_tensor, ensure_tuple_rep
from torch import Tensor, nn

from medssl.transforms.origin import origin
from medssl.transforms.rotation import rotation


class RandJointElastic(RandomizableTransform):
    """Bend images and their label maps by one smooth random displacement.

    The displacement is a cubic B-spline: its control points lie ``spacing`` pixels apart, and each moves along every
    axis by a uniform draw within plus or minus the magnitude. So no pixel moves further than that along an axis; the
    standard deviation of its displacement is .28 of it in two dimensions, .19 in three. Below two fifths of the spacing
    the image never folds. A transform of one map at a time: called again with ``randomize=False`` it bends the next as
    it bent the last.

    Args:
        spacing: distance of the control points, pixels (voxels).
        magnitude: largest displacement of a control point along an axis, pixels: a number, or a range that it is drawn
            from.
        prob: of bending at all.

    Shape:
        - image: :math:`(C, *)`, two or three spatial dimensions.
        - output: as the image, type and metadata included. Beyond the border lie copies of it.

    Raises:
        ValueError: if the spacing is not positive or the magnitudes no range, or a map has another size than the
            displacement was drawn for.

    Reference:
        The elastic positives of LRC, Yan et al., arXiv:2304.03406, which gives no parameters; Choi, Lee, Injectivity
        conditions of 2D and 3D uniform cubic B-spline functions, Graphical Models 2000.
    """

    def __init__(
        self, spacing: float = 32.0, magnitude: float | Sequence[float] = (0.0, 8.0), prob: float = 1.0
    ) -> None:
        RandomizableTransform.__init__(self, prob)
        self.spacing, self.magnitude = check(spacing, magnitude)
        self.points = torch.empty(0)  # (n, *), displacement of the control points, pixels, axes in the image's order
        self.size: tuple[int, ...] = ()  # that it was drawn for

    def randomize(self, size: Sequence[int]) -> None:
        """Draw a displacement for images of spatial ``size``."""
        super().randomize(None)
        self.size = tuple(size)
        if self._do_transform:
            strength = self.R.uniform(*self.magnitude)
            points = self.R.uniform(-strength, strength, (len(size), *num_points(size, self.spacing)))
            self.points = torch.as_tensor(points, dtype=torch.float32)

    def __call__(self, image: NdarrayOrTensor, mode: str = "bilinear", randomize: bool = True) -> NdarrayOrTensor:
        """Bend ``image``: ``"bilinear"``, or ``"nearest"`` for label maps, whose values then stay what they were."""
        pixels = convert_to_tensor(image, track_meta=False)
        if pixels.ndim not in (3, 4):
            raise ValueError(
                f"an image must be (C, *) with two or three spatial dimensions, got {tuple(pixels.shape)}"
                f"{origin(image)}; add the channel with EnsureChannelFirstd."
            )
        if randomize:
            self.randomize(pixels.shape[1:])
        elif tuple(pixels.shape[1:]) != self.size:
            raise ValueError(
                f"the displacement was drawn for images of size {self.size}, got one of {tuple(pixels.shape[1:])}; "
                "resample them to one grid, and let the first draw it."
            )
        if not self._do_transform:
            return image
        grid = bend(self.points[None].to(pixels.device), pixels.shape[1:], self.spacing)
        return convert_to_dst_type(sample(pixels[None], grid, mode)[0], image, dtype=pixels.dtype)[0]


class RandJointElasticd(RandomizableTransform, MapTransform):
    """Dictionary-based :py:class:`RandJointElastic`: one displacement for all keys, which must be of one size.

    Args:
        keys: of images and label maps.
        spacing, magnitude, prob: see :py:class:`RandJointElastic`.
        mode: ``"bilinear"`` or ``"nearest"``, one for all keys or one for each.
        allow_missing_keys: leave out what is not there.
    """

    def __init__(
        self,
        keys: KeysCollection,
        spacing: float = 32.0,
        magnitude: float | Sequence[float] = (0.0, 8.0),
        prob: float = 1.0,
        mode: str | Sequence[str] = "bilinear",
        allow_missing_keys: bool = False,
    ) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)
        RandomizableTransform.__init__(self)
        self.elastic = RandJointElastic(spacing, magnitude, prob)
        self.mode = ensure_tuple_rep(mode, len(self.keys))

    def set_random_state(self, seed: Any = None, state: Any = None) -> RandJointElasticd:
        """Seed the draw."""
        self.elastic.set_random_state(seed, state)
        return self

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the dictionary with its maps bent alike."""
        present = dict(self.key_iterator(data, self.mode))
        sizes = {key: tuple(data[key].shape[1:]) for key in present}
        if len(set(sizes.values())) > 1:
            raise ValueError(f"maps to bend alike must have one size, got {sizes}; resample them to one grid first.")
        if present:
            self.elastic.randomize(next(iter(sizes.values())))
        return {**data, **{key: self.elastic(data[key], mode, randomize=False) for key, mode in present.items()}}


class RandJointElasticBatch(nn.Module):
    """Bend every image of a batch, and its label map, by a displacement of its own, on whatever device holds them.

    The same sampling also turns, scales and shifts, where that is asked for.

    Args:
        spacing, magnitude: see :py:class:`RandJointElastic`.
        rotation: largest angle, radians, either way; of slices only.
        scale: largest change of size, as a part of it, either way.
        shift: largest shift along an axis, as a part of the side, either way.

    Shape:
        - images: :math:`(B, C, *)`, floating; labels: :math:`(B, 1, *)`, of any type, or None.
        - output: the same two.

    Raises:
        ValueError: if a number is out of its range, labels have another size than the images, or volumes are to be
            turned.
    """

    def __init__(
        self,
        spacing: float = 32.0,
        magnitude: float | Sequence[float] = (0.0, 8.0),
        rotation: float = 0.0,
        scale: float = 0.0,
        shift: float = 0.0,
    ) -> None:
        super().__init__()
        self.spacing, self.magnitude = check(spacing, magnitude)
        if rotation < 0 or not 0 <= scale < 1 or not 0 <= shift < 1:
            raise ValueError(
                f"rotation must not be negative, scale and shift lie in [0, 1), got {rotation}, {scale} and {shift}."
            )
        self.rotation, self.scale, self.shift = rotation, scale, shift

    @torch.no_grad()
    def forward(self, images: Tensor, labels: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Return both bent alike; the draw comes from torch's default generator."""
        size = images.shape[2:]
        if labels is not None and labels.shape != (len(images), 1, *size):
            raise ValueError(f"labels must be {(len(images), 1, *size)} like the images, got {tuple(labels.shape)}.")
        strength = torch.empty(len(images), 1, device=images.device).uniform_(*self.magnitude)  # (B, 1)
        draw = torch.rand(len(images), len(size) * math.prod(num_points(size, self.spacing)), device=images.device)
        points = ((2 * draw - 1) * strength).view(len(images), len(size), *num_points(size, self.spacing))
        places = placed(points, size, self.spacing)
        if self.rotation or self.scale or self.shift:
            places = self.move(places, size)  # the spline moves with its control points, and these are few
        grid = spline(places, size, self.spacing)
        return sample(images, grid, "bilinear"), None if labels is None else sample(labels, grid, "nearest")

    def move(self, places: Tensor, size: Sequence[int]) -> Tensor:
        """Turn, scale and shift control points :math:`(B, n, *)` of each image by a draw of its own."""
        count, dims = places.shape[:2]
        if self.rotation and dims != 2:
            raise ValueError(f"only slices are turned, got images of {dims} dimensions; set rotation to 0.")
        draw = 2 * torch.rand(count, 2 + dims, device=places.device) - 1
        matrix = torch.eye(dims, device=places.device) * (1 + self.scale * draw[:, :1, None])  # (B, n, n)
        if self.rotation:
            angle = self.rotation * draw[:, 1]
            matrix = matrix @ rotation(angle.cos(), angle.sin(), *size)
        shift = 2 * self.shift * draw[:, 2:]  # sides are 2 long
        return (matrix @ places.flatten(2) + shift[..., None]).view_as(places)


def check(spacing: float, magnitude: float | Sequence[float]) -> tuple[float, tuple[float, float]]:
    """Return spacing and range of magnitude.

    Raises:
        ValueError: if they make no displacement.
    """
    low, high = (magnitude, magnitude) if isinstance(magnitude, int | float) else magnitude
    if spacing <= 0:
        raise ValueError(f"spacing must be positive, got {spacing}.")
    if not 0 <= low <= high:
        raise ValueError(f"magnitude must be a number or a smallest and a largest, not negative, got {magnitude}.")
    return spacing, (low, high)


def num_points(size: Sequence[int], spacing: float) -> list[int]:
    """Return how many control points each axis needs: one beyond the first pixel and two beyond the last."""
    return [math.floor((side - 1) / spacing) + 4 for side in size]


def bend(points: Tensor, size: Sequence[int], spacing: float) -> Tensor:
    """Return the sampling grid of a displacement.

    Args:
        points: :math:`(B, n, *)`, displacement of the control points along the n axes, pixels.
        size: spatial size of the images.
        spacing: distance of the control points, pixels.

    Returns:
        Grid :math:`(B, *, n)` for ``grid_sample`` with ``align_corners=False``.
    """
    return spline(placed(points, size, spacing), size, spacing)


def placed(points: Tensor, size: Sequence[int], spacing: float) -> Tensor:
    """Return where displaced control points lie, :math:`(B, n, *)` in the units of ``grid_sample``, last axis first."""
    places = []
    for axis, side in enumerate(size):
        lattice = spacing * (torch.arange(points.shape[2 + axis], device=points.device) - 1)  # pixels
        along = points[:, axis] + lattice.view(-1, *[1] * (len(size) - 1 - axis))
        places.append((2 * along + 1) / side - 1)
    return torch.stack(places[::-1], dim=1)


def spline(places: Tensor, size: Sequence[int], spacing: float) -> Tensor:
    """Return the grid :math:`(B, *, n)` of the cubic B-spline with control points at ``places``.

    Points that lie on their lattice give the identity: so nothing is added at every pixel, but the spline evaluated.
    """
    for side in size:
        weights = spline_weights(side, places.shape[2], spacing, places.device)  # (side, points)
        places = torch.tensordot(places, weights, dims=([2], [1]))  # the axis done goes to the end
    return places.movedim(1, -1)  # a view: grid_sample reads it as fast


def spline_weights(side: int, points: int, spacing: float, device: torch.device) -> Tensor:
    """Return the cubic B-spline's weight of every control point (column) at every pixel (row) along an axis."""
    pixel = torch.arange(side, device=device)[:, None] / spacing
    distance = (pixel + 1 - torch.arange(points, device=device)).abs()  # the first point lies before the first pixel
    near = 2 / 3 - distance**2 + distance**3 / 2
    return torch.where(distance < 1, near, (2 - distance).clamp(min=0) ** 3 / 6)


def sample(maps: Tensor, grid: Tensor, mode: str) -> Tensor:
    """Sample maps :math:`(B, C, *)` of any type at a grid; whole numbers up to 2^24 stay exact."""
    sampled = F.grid_sample(maps.to(grid.dtype), grid, mode, padding_mode="border", align_corners=False)
    return sampled.to(maps.dtype) if mode == "nearest" or maps.is_floating_point() else sampled.round().to(maps.dtype)
