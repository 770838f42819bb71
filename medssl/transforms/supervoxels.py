"""Regions of a volume that follow its edges in three dimensions."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
from monai.config import KeysCollection
from monai.config.type_definitions import NdarrayOrTensor
from monai.transforms import MapTransform, Transform
from monai.utils import convert_to_dst_type, convert_to_numpy, ensure_tuple_rep
from skimage.segmentation import slic

from medssl.transforms.origin import origin


class Supervoxels(Transform):
    """Partition a volume into compact regions of like intensity by SLIC, which knows three axes.

    Args:
        size: voxels a region has on average.
        compactness: how much nearness counts beside likeness, for intensities in [0, 1]; larger gives rounder regions.

    Shape:
        - image: :math:`(C, D, H, W)`, floating, within [0, 1].
        - output: :math:`(1, D, H, W)`, int32, numbered from 0 without gaps.

    Raises:
        ValueError: when called, for another shape or intensities outside [0, 1].

    Reference:
        Achanta et al., SLIC Superpixels Compared to State-of-the-Art Superpixel Methods, TPAMI 2012.
    """

    def __init__(self, size: int = 200, compactness: float = 0.1) -> None:
        if size < 1 or compactness <= 0:
            raise ValueError(f"size must be at least 1 and compactness positive, got {size} and {compactness}.")
        self.size, self.compactness = size, compactness

    def __call__(self, image: NdarrayOrTensor) -> NdarrayOrTensor:
        """Return the regions of a volume."""
        voxels = convert_to_numpy(image)
        lowest, highest = voxels.min(), voxels.max()
        if voxels.ndim != 4 or not (np.issubdtype(voxels.dtype, np.floating) and 0 <= lowest <= highest <= 1):
            raise ValueError(
                f"a volume must be (C, D, H, W), floating and within [0, 1], got {voxels.dtype} {voxels.shape} from "
                f"{lowest:g} to {highest:g}{origin(image)}; scale it first."
            )
        count = max(1, round(np.prod(voxels.shape[1:]) / self.size))
        regions = slic(voxels, count, self.compactness, channel_axis=0, start_label=0, convert2lab=False)
        _, numbers = np.unique(regions, return_inverse=True)
        return convert_to_dst_type(numbers.reshape(1, *regions.shape), image, dtype=np.int32)[0]


class Supervoxelsd(MapTransform):
    """Dictionary-based :py:class:`Supervoxels`; the regions go to keys of their own.

    Args:
        keys: of the images.
        names: of their regions.
        size, compactness: see :py:class:`Supervoxels`.
        allow_missing_keys: leave out what is not there.
    """

    def __init__(
        self,
        keys: KeysCollection,
        names: KeysCollection = "regions",
        size: int = 200,
        compactness: float = 0.1,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.names = ensure_tuple_rep(names, len(self.keys))
        if len(set(self.names)) != len(self.keys):
            raise ValueError(f"names must be one for each of the keys {self.keys}, got {self.names}.")
        self.supervoxels = Supervoxels(size, compactness)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the dictionary with regions."""
        return {**data, **{name: self.supervoxels(data[key]) for key, name in self.key_iterator(data, self.names)}}
