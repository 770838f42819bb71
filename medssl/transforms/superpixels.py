"""Regions that follow the edges of an image, slice by slice."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
from monai.config import KeysCollection
from monai.config.type_definitions import NdarrayOrTensor
from monai.transforms import MapTransform, Transform
from monai.utils import convert_to_dst_type, convert_to_numpy, ensure_tuple_rep
from skimage.segmentation import felzenszwalb

from medssl.transforms.origin import origin


class Superpixels(Transform):
    """Partition every slice of a volume into regions of like intensity by Felzenszwalb's and Huttenlocher's graph.

    The regions of a slice are numbered from 0 without gaps; the same slice always gives the same regions. What
    ``scale`` and ``sigma`` do depends on the size of the slice and its contrast: ``python -m medssl superpixels``
    shows it for a manifest.

    Args:
        scale: how different neighbours must be to stay apart, for intensities in [0, 1]; larger gives larger regions.
        sigma: standard deviation of the Gaussian that smoothes a slice first, pixels.
        min_size: smallest region, pixels; smaller ones join a neighbour. On coarse scans a large one swallows organs.
        axis: spatial axis along which a volume is sliced, 0 for the first after the channel; a slice needs none.

    Shape:
        - image: :math:`(C, H, W)` or :math:`(C, *)` with three spatial dimensions, floating, within [0, 1].
        - output: :math:`(1, *)`, int32.

    Raises:
        ValueError: if a parameter is out of its range; when called, for another shape, and for intensities outside
            [0, 1], or integers: these would be scaled by the range of their type, which leaves a handful of regions.

    Reference:
        Felzenszwalb, Huttenlocher, Efficient Graph-Based Image Segmentation, IJCV 2004; regions of LRC, Yan et al.,
        arXiv:2304.03406, which gives no parameters.
    """

    def __init__(self, scale: float = 100.0, sigma: float = 0.5, min_size: int = 50, axis: int = 0) -> None:
        if scale < 0 or sigma < 0 or min_size < 1 or min_size != int(min_size):
            raise ValueError(
                "scale and sigma must not be negative and min_size be a whole number of at least 1, got "
                f"{scale}, {sigma}, {min_size}."
            )
        self.scale, self.sigma, self.min_size, self.axis = scale, sigma, min_size, axis

    def __call__(self, image: NdarrayOrTensor) -> NdarrayOrTensor:
        """Return the regions of an image."""
        pixels = convert_to_numpy(image)
        if pixels.ndim not in (3, 4) or (pixels.ndim == 4 and self.axis not in range(3)):
            raise ValueError(
                f"an image must be (C, H, W), or (C, *) with three spatial dimensions, sliced along axis {self.axis}, "
                f"got {pixels.shape}{origin(image)}."
            )
        lowest, highest = pixels.min(), pixels.max()
        if not (np.issubdtype(pixels.dtype, np.floating) and 0 <= lowest <= highest <= 1):
            raise ValueError(
                f"intensities must be floating and lie in [0, 1], got {pixels.dtype} from {lowest:g} to {highest:g}"
                f"{origin(image)}; window them first."
            )
        axis = 1 + self.axis
        size = [side for other, side in enumerate(pixels.shape[1:]) if pixels.ndim == 3 or other != self.axis]
        if self.min_size > size[0] * size[1]:
            raise ValueError(
                f"a region of min_size {self.min_size} does not fit into a slice of {size[0]} x {size[1]} pixels"
                f"{origin(image)}; lower it."
            )
        slices = [pixels] if pixels.ndim == 3 else np.moveaxis(pixels, axis, 0)
        regions = np.stack([self.partition(pixels) for pixels in slices])  # (V, H, W)
        regions = regions if pixels.ndim == 3 else np.moveaxis(regions, 0, axis - 1)[None]
        return convert_to_dst_type(regions, image, dtype=np.int32)[0]

    def partition(self, pixels: np.ndarray) -> np.ndarray:
        """Return the regions :math:`(H, W)` of one slice :math:`(C, H, W)`."""
        regions: np.ndarray = felzenszwalb(
            pixels.astype(np.float64), self.scale, self.sigma, self.min_size, channel_axis=0
        )
        return regions


class Superpixelsd(MapTransform):
    """Dictionary-based :py:class:`Superpixels`; the regions go to keys of their own.

    Args:
        keys: of the images.
        names: of their regions.
        scale, sigma, min_size, axis: see :py:class:`Superpixels`.
        allow_missing_keys: leave out what is not there.
    """

    def __init__(
        self,
        keys: KeysCollection,
        names: KeysCollection = "regions",
        scale: float = 100.0,
        sigma: float = 0.5,
        min_size: int = 50,
        axis: int = 0,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.names = ensure_tuple_rep(names, len(self.keys))
        if len(set(self.names)) != len(self.keys):
            raise ValueError(f"names must be one for each of the keys {self.keys}, got {self.names}.")
        self.superpixels = Superpixels(scale, sigma, min_size, axis)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the dictionary with regions."""
        named = self.key_iterator(data, self.names)
        return {**data, **{name: self.superpixels(data[key]) for key, name in named}}
