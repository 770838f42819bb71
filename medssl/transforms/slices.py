"""Random slices of a volume that know their place in it."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from fractions import Fraction
from typing import Any

from monai.config import KeysCollection
from monai.config.type_definitions import NdarrayOrTensor
from monai.transforms import MapTransform, MultiSampleTrait, Randomizable, Transform
from monai.utils import convert_to_tensor
from torch import Tensor


class RandSlices(Randomizable, Transform, MultiSampleTrait):
    """Draw slices of a volume at random, with replacement only where it has too few.

    Args:
        num_samples: slices drawn per volume.
        axis: spatial axis that is sliced, 0 for the first after the channel.
    """

    def __init__(self, num_samples: int = 1, axis: int = 0) -> None:
        if num_samples < 1:
            raise ValueError(f"num_samples must be at least 1, got {num_samples}.")
        self.num_samples, self.axis = num_samples, axis
        self.indices: list[int] = []

    def randomize(self, depth: int) -> None:
        """Draw places among ``depth`` slices."""
        self.indices = self.R.choice(depth, self.num_samples, replace=depth < self.num_samples).tolist()

    def __call__(self, volume: NdarrayOrTensor, randomize: bool = True) -> list[Tensor]:
        """Slice ``volume`` ``(C, *)``; with ``randomize=False`` as in the last draw."""
        tensor = convert_to_tensor(volume, track_meta=False)
        if randomize:
            self.randomize(tensor.shape[1 + self.axis])
        return [tensor.select(1 + self.axis, i) for i in self.indices]


class RandSlicesd(Randomizable, MapTransform, MultiSampleTrait):
    """Dictionary-based :py:class:`RandSlices`: the same slices of every key, one dictionary per slice.

    Adds the integers ``index`` and ``depth``: thresholds on the floating-point ratio misjudge pairs.
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

    def __call__(self, data: Mapping[Hashable, Any]) -> list[dict[Hashable, Any]]:
        """Return one dictionary per drawn slice."""
        return draw_slices(self, self.slicer, data)


class RandSlicePair(Randomizable, Transform, MultiSampleTrait):
    r"""Draw two different slices i, j of a volume of V slices with :math:`|i - j| < t V`, every such pair equally likely.

    These are the pairs that SAL aligns (Li, Ouyang, Wan 2024, section 2.1).

    Args:
        threshold: t; compared exactly, as the fraction that its decimal digits say.
        axis: spatial axis that is sliced, 0 for the first after the channel.
    """

    def __init__(self, threshold: float, axis: int = 0) -> None:
        if threshold <= 0:
            raise ValueError(f"threshold must be positive, got {threshold}.")
        self.threshold, self.axis = Fraction(str(threshold)), axis
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
        tensor = convert_to_tensor(volume, track_meta=False)
        if randomize:
            self.randomize(tensor.shape[1 + self.axis])
        return [tensor.select(1 + self.axis, i) for i in self.indices]


class RandSlicePaird(Randomizable, MapTransform, MultiSampleTrait):
    """Dictionary-based :py:class:`RandSlicePair`: the same two slices of every key, one dictionary per slice.

    Adds the integers ``index`` and ``depth``, as :py:class:`RandSlicesd` does.
    """

    def __init__(self, keys: KeysCollection, threshold: float, axis: int = 0, allow_missing_keys: bool = False) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)
        self.slicer = RandSlicePair(threshold, axis)

    def set_random_state(self, seed: Any = None, state: Any = None) -> RandSlicePaird:
        """Seed the draw."""
        self.slicer.set_random_state(seed, state)
        return self

    def __call__(self, data: Mapping[Hashable, Any]) -> list[dict[Hashable, Any]]:
        """Return two dictionaries."""
        return draw_slices(self, self.slicer, data)


def draw_slices(
    transform: MapTransform, slicer: RandSlices | RandSlicePair, data: Mapping[Hashable, Any]
) -> list[dict[Hashable, Any]]:
    """Draw once, slice every key alike, and note each slice's place."""
    depths = {key: int(data[key].shape[1 + slicer.axis]) for key in transform.key_iterator(data)}
    if len(set(depths.values())) != 1:
        raise ValueError(f"volumes to slice together must have one depth, got {depths}.")
    depth = next(iter(depths.values()))
    slicer.randomize(depth)
    slices = {key: slicer(data[key], randomize=False) for key in depths}
    return [
        {**data, **{key: slices[key][n] for key in depths}, "index": i, "depth": depth}
        for n, i in enumerate(slicer.indices)
    ]
