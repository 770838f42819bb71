"""Labels that lie where their images lie."""

import itertools
from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
from monai.config import KeysCollection
from monai.transforms import MapTransform

from medssl.transforms.origin import origin


class SameGridd(MapTransform):
    """Refuse volumes of one case that lie on different grids; cropped alike, they would be trained on out of place.

    Args:
        keys: volumes to compare with the first of them, each a ``MetaTensor`` :math:`(C, *)`.
        allow_missing_keys: compare those that are there.

    Raises:
        ValueError: when called, for shapes that differ, or affines that place the corners of the grid more than a
            thousandth of a voxel, and of a millimetre, apart.
    """

    def __init__(self, keys: KeysCollection, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the dictionary as it is."""
        present = list(self.key_iterator(data))
        first = data[present[0]]
        affine = np.asarray(first.affine, dtype=float)
        corners = np.array(list(itertools.product(*((0, side) for side in first.shape[1:]))))
        tolerance = 1e-3 * max(1.0, np.linalg.norm(affine[:3, :3], axis=0).min())
        for key in present[1:]:
            other = data[key]
            if other.shape[1:] != first.shape[1:]:
                raise ValueError(
                    f"{present[0]} and {key} must have one shape, got {tuple(first.shape[1:])}{origin(first)} and "
                    f"{tuple(other.shape[1:])}{origin(other)}; resample the label to the image."
                )
            shift = np.asarray(other.affine, dtype=float) - affine
            distance = np.abs(corners @ shift[:3, :3].T + shift[:3, 3]).max()
            if distance > tolerance:
                raise ValueError(
                    f"{present[0]} and {key} must lie on one grid, got affines {distance:.3g} mm apart{origin(other)}; "
                    "correct the label's header, or resample it to the image."
                )
        return dict(data)
