"""Random slices of a volume that know their place in it."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from fractions import Fraction
from typing import Any, Protocol

import torch
from monai.config import KeysCollection
from monai.config.type_definitions import NdarrayOrTensor
from monai.transforms import MapTransform, MultiSampleTrait, Randomizable, Transform
from monai.utils import convert_to_tensor
from torch import Tensor

from medssl.losses.global_positional import exact_threshold
from medssl.transforms.origin import origin


class Slicer(Protocol):
    """What draws slices, such as :py:class:`RandSlices`: ``randomize`` sets ``indices``, their places in the volume."""

    axis: int
    indices: list[int]

    def set_random_state(self, seed: Any = None, state: Any = None) -> Any:
        """Seed the draw."""

    def randomize(self, depth: int) -> None:
        """Draw places among ``depth`` slices."""

    def __call__(self, volume: NdarrayOrTensor, randomize: bool = True) -> list[Tensor]:
        """Slice a volume; with ``randomize=False`` as in the last draw."""


class RandSlices(Randomizable, Transform, MultiSampleTrait):
    """Draw slices of a volume at random, with replacement only where it has too few.

    The slices are copies, plain tensors without metadata: they collate fast, and nothing done to them reaches a cache.

    Args:
        num_samples: slices drawn per volume.
        axis: spatial axis that is sliced, 0 for the first after the channel.

    Shape:
        - volume: :math:`(C, *)`.
        - output: a list of ``num_samples`` tensors, the volume's shape without the axis.
    """

    def __init__(self, num_samples: int = 1, axis: int = 0) -> None:
        if num_samples < 1:
            raise ValueError(f"num_samples must be at least 1, got {num_samples}.")
        if axis < 0:
            raise ValueError(f"axis counts the spatial axes from 0, got {axis}.")
        self.num_samples, self.axis = num_samples, axis
        self.indices: list[int] = []

    def randomize(self, depth: int) -> None:
        """Draw places among ``depth`` slices."""
        if depth < 1:
            raise ValueError("a volume must have slices to draw from, got 0; leave the case out.")
        self.indices = self.R.choice(depth, self.num_samples, replace=depth < self.num_samples).tolist()

    def __call__(self, volume: NdarrayOrTensor, randomize: bool = True) -> list[Tensor]:
        """Slice ``volume`` ``(C, *)``; with ``randomize=False`` as in the last draw."""
        if randomize:
            self.randomize(count(volume, self.axis))
        return copies(volume, self.axis, self.indices)


class RandSlicesd(Randomizable, MapTransform, MultiSampleTrait):
    """Dictionary-based :py:class:`RandSlices`: the same slices of every key, one dictionary per slice.

    Adds the integers ``index`` and ``depth``: thresholds on the floating-point ratio misjudge pairs. Every other entry
    is handed on as it is.
    """

    def __init__(
        self, keys: KeysCollection, num_samples: int = 1, axis: int = 0, allow_missing_keys: bool = False
    ) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)
        self.slicer = RandSlices(num_samples, axis)

    def set_random_state(self, seed: Any = None, state: Any = None) -> RandSlicesd:
        """Seed the draw."""
        self.slicer.set_random_state(seed, state)
        return self

    def randomize(self, depth: int) -> None:
        """Draw places among ``depth`` slices."""
        self.slicer.randomize(depth)

    def __call__(self, data: Mapping[Hashable, Any]) -> list[dict[Hashable, Any]]:
        """Return one dictionary per drawn slice."""
        return draw_slices(self, self.slicer, data)


class RandSlicePair(Randomizable, Transform, MultiSampleTrait):
    r"""Draw two different slices i, j of V with :math:`|i - j| < t V`, every such pair equally likely.

    These are the pairs that SAL aligns, in either order. Like those of :py:class:`RandSlices` they are copies.

    Args:
        threshold: t; compared exactly, as the fraction that its decimal digits say.
        axis: spatial axis that is sliced, 0 for the first after the channel.

    Shape:
        - volume: :math:`(C, *)`.
        - output: a list of two tensors, the volume's shape without the axis.

    Raises:
        ValueError: for a threshold that is not positive; when called, if no two slices are close enough.

    Reference:
        Li, Ouyang, Wan, Self-Supervised Alignment Learning for Medical Image Segmentation, arXiv:2406.15699, eq. 1.
    """

    def __init__(self, threshold: float | Fraction, axis: int = 0) -> None:
        if axis < 0:
            raise ValueError(f"axis counts the spatial axes from 0, got {axis}.")
        self.threshold, self.axis = exact_threshold(threshold), axis
        self.indices: list[int] = []

    def randomize(self, depth: int) -> None:
        """Draw two places among ``depth`` slices.

        Raises:
            ValueError: if no two slices are close enough.
        """
        widest = min(depth - 1, -(-self.threshold * depth // 1) - 1)  # the largest whole distance below t V
        if widest < 1:
            raise ValueError(
                f"a pair takes two slices less than {float(self.threshold):g} of the volume apart, got {depth} slices: "
                "leave the volume out, or raise the threshold."
            )
        # A distance d leaves room for depth - d pairs; the order of the two is drawn as well.
        distances = range(1, int(widest) + 1)
        room = [depth - d for d in distances]
        distance = self.R.choice(distances, p=[r / sum(room) for r in room])
        first = self.R.randint(depth - distance)
        self.indices = self.R.permutation([first, first + distance]).tolist()

    def __call__(self, volume: NdarrayOrTensor, randomize: bool = True) -> list[Tensor]:
        """Slice ``volume`` ``(C, *)`` twice; with ``randomize=False`` as in the last draw."""
        if randomize:
            self.randomize(count(volume, self.axis))
        return copies(volume, self.axis, self.indices)


class RandSlicePaird(Randomizable, MapTransform, MultiSampleTrait):
    """Dictionary-based :py:class:`RandSlicePair`: the same two slices of every key, one dictionary per slice.

    Adds the integers ``index`` and ``depth``, as :py:class:`RandSlicesd` does.
    """

    def __init__(
        self, keys: KeysCollection, threshold: float | Fraction, axis: int = 0, allow_missing_keys: bool = False
    ) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)
        self.slicer = RandSlicePair(threshold, axis)

    def set_random_state(self, seed: Any = None, state: Any = None) -> RandSlicePaird:
        """Seed the draw."""
        self.slicer.set_random_state(seed, state)
        return self

    def randomize(self, depth: int) -> None:
        """Draw two places among ``depth`` slices."""
        self.slicer.randomize(depth)

    def __call__(self, data: Mapping[Hashable, Any]) -> list[dict[Hashable, Any]]:
        """Return two dictionaries."""
        return draw_slices(self, self.slicer, data)


def count(volume: NdarrayOrTensor, axis: int) -> int:
    """Return the number of slices of ``volume`` ``(C, *)`` along a spatial axis."""
    if volume.ndim < axis + 2:
        raise ValueError(
            f"a volume to slice along axis {axis} must be (C, *) with {axis + 1} spatial dimensions or more, "
            f"got {tuple(volume.shape)}{origin(volume)}; add the channel with EnsureChannelFirstd."
        )
    return int(volume.shape[1 + axis])


def copies(volume: NdarrayOrTensor, axis: int, indices: list[int]) -> list[Tensor]:
    """Return slices of ``volume`` ``(C, *)`` that share no memory with it."""
    tensor = convert_to_tensor(volume, track_meta=False)
    return [tensor.select(1 + axis, i).clone(memory_format=torch.contiguous_format) for i in indices]


def draw_slices(transform: MapTransform, slicer: Slicer, data: Mapping[Hashable, Any]) -> list[dict[Hashable, Any]]:
    """Draw once, slice every key alike, and note each slice's place."""
    depths = {key: count(data[key], slicer.axis) for key in transform.key_iterator(data)}
    if len(set(depths.values())) != 1:
        raise ValueError(f"volumes to slice together must have one depth, got {depths} for keys {transform.keys}.")
    depth = next(iter(depths.values()))
    slicer.randomize(depth)
    slices = {key: slicer(data[key], randomize=False) for key in depths}
    return [
        {**data, **{key: slices[key][n] for key in depths}, "index": i, "depth": depth}
        for n, i in enumerate(slicer.indices)
    ]
