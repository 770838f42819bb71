"""One random slice from each part of a volume."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

from monai.config import KeysCollection
from monai.config.type_definitions import NdarrayOrTensor
from monai.transforms import MapTransform, MultiSampleTrait, Randomizable, Transform
from torch import Tensor

from medssl.transforms.slices import copies, count, draw_slices


class RandPartSlices(Randomizable, Transform, MultiSampleTrait):
    r"""Draw one slice from each of S equal parts of a volume.

    A part has :math:`\lfloor V / S \rfloor` slices of V, what is left at the end is never drawn. Of fewer than S slices
    the last is drawn more than once. Like those of :py:class:`RandSlices` the slices are copies.

    Args:
        num_parts: S, 4 in the paper.
        axis: spatial axis that is sliced, 0 for the first after the channel.

    Shape:
        - volume: :math:`(C, *)`.
        - output: a list of ``num_parts`` tensors, the volume's shape without the axis.

    Reference:
        Chaitanya et al., Contrastive Learning of Global and Local Features for Medical Image Segmentation with Limited
        Annotations, NeurIPS 2020, arXiv:2006.10511.
    """

    def __init__(self, num_parts: int = 4, axis: int = 0) -> None:
        if num_parts < 2:
            raise ValueError(f"num_parts must be at least 2, got {num_parts}; the paper takes 4.")
        if axis < 0:
            raise ValueError(f"axis counts the spatial axes from 0, got {axis}.")
        self.num_parts, self.axis = num_parts, axis
        self.indices: list[int] = []

    def randomize(self, depth: int) -> None:
        """Draw a place in every part of ``depth`` slices."""
        if depth < 1:
            raise ValueError("a volume must have slices to draw from, got 0; leave the case out.")
        length = max(1, depth // self.num_parts)
        places = (part * length + int(self.R.randint(length)) for part in range(self.num_parts))
        self.indices = [min(place, depth - 1) for place in places]

    def __call__(self, volume: NdarrayOrTensor, randomize: bool = True) -> list[Tensor]:
        """Slice ``volume`` ``(C, *)``; with ``randomize=False`` as in the last draw."""
        if randomize:
            self.randomize(count(volume, self.axis))
        return copies(volume, self.axis, self.indices)


class RandPartSlicesd(Randomizable, MapTransform, MultiSampleTrait):
    """Dictionary-based :py:class:`RandPartSlices`: the same slices of every key, one dictionary per slice.

    Adds the integers ``index`` and ``depth``, as :py:class:`RandSlicesd` does.
    """

    def __init__(
        self, keys: KeysCollection, num_parts: int = 4, axis: int = 0, allow_missing_keys: bool = False
    ) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)
        self.slicer = RandPartSlices(num_parts, axis)

    def set_random_state(self, seed: Any = None, state: Any = None) -> RandPartSlicesd:
        """Seed the draw."""
        self.slicer.set_random_state(seed, state)
        return self

    def randomize(self, depth: int) -> None:
        """Draw a place in every part of ``depth`` slices."""
        self.slicer.randomize(depth)

    def __call__(self, data: Mapping[Hashable, Any]) -> list[dict[Hashable, Any]]:
        """Return one dictionary per drawn slice."""
        return draw_slices(self, self.slicer, data)
