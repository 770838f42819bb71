"""The intensities that a network sees."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch
from monai.config import KeysCollection
from monai.config.type_definitions import NdarrayOrTensor
from monai.data import MetaTensor, get_track_meta
from monai.transforms import MapTransform, NormalizeIntensity, ScaleIntensityRange, Transform
from monai.transforms.utils_pytorch_numpy_unification import clip, percentile
from monai.utils import convert_to_numpy, convert_to_tensor

from medssl.transforms.origin import origin


class Window(Transform):
    """Bring the intensities of a volume to the scale that a manifest's ``window`` names.

    Either ``hu``, a fixed range for CT, clipped and mapped to [0, 1]; or statistics of the whole volume, all channels
    together: clipped to ``percentiles`` first, then brought to mean 0 and standard deviation 1 by ``zscore``, or one of
    the two.

    Args:
        hu: lowest and highest value, Hounsfield units.
        percentiles: lowest and highest percentile of the volume, 0 to 100.
        zscore: subtract the mean, divide by the standard deviation.

    Shape:
        - volume: any, of any real type.
        - output: the same, float32.

    Raises:
        ValueError: if nothing, or both kinds, are asked for, or a range is empty; when called, for NaN or infinite
            voxels, where the statistics leave a constant volume, and where no voxel of a volume (C, D, H, W) lies
            within ``hu``. The message names the file.
    """

    def __init__(
        self, hu: Sequence[float] | None = None, percentiles: Sequence[float] | None = None, zscore: bool = False
    ) -> None:
        if (hu is not None) == (percentiles is not None or zscore):
            raise ValueError(
                f"window takes hu, or percentiles and zscore, got hu {hu}, percentiles {percentiles}, zscore {zscore}."
            )
        for kind, pair in (("hu", hu), ("percentiles", percentiles)):
            if pair is not None and not (len(pair) == 2 and -float("inf") < pair[0] < pair[1] < float("inf")):
                raise ValueError(f"{kind} must be a lowest and a highest value, got {list(pair)}.")
        if percentiles is not None and not 0 <= percentiles[0] < percentiles[1] <= 100:
            raise ValueError(f"percentiles must lie between 0 and 100, got {list(percentiles)}.")
        if percentiles is not None and percentiles[1] <= 1:
            raise ValueError(
                f"percentiles are of a hundred, not fractions, got {list(percentiles)}; write "
                f"{[100 * value for value in percentiles]}."
            )
        self.hu = None if hu is None else ScaleIntensityRange(*hu, 0.0, 1.0, clip=True)
        self.percentiles = None if percentiles is None else list(percentiles)
        self.zscore = zscore

    def __call__(self, volume: NdarrayOrTensor) -> torch.Tensor:
        """Return the volume on its new scale."""
        volume = convert_to_tensor(volume, dtype=torch.float32, track_meta=get_track_meta())
        self.check(volume)
        if self.hu is not None:
            return self.hu(volume)
        if self.percentiles is not None:  # both at once: MONAI's ClipIntensityPercentiles sorts twice
            lowest, highest = percentile(convert_to_tensor(volume, track_meta=False), self.percentiles)
            if lowest == highest:
                raise ValueError(
                    f"percentiles {self.percentiles} leave nothing to scale, both are {float(lowest):g}"
                    f"{origin(volume)}; widen them or leave the case out."
                )
            volume = clip(volume, lowest, highest)
        if not self.zscore:
            return volume
        values = convert_to_numpy(volume)  # torch's sums depend on the number of threads: slice stores would differ
        return NormalizeIntensity(float(values.mean(dtype=float)), float(values.std(dtype=float)))(volume)

    def check(self, volume: torch.Tensor) -> None:
        """Refuse a volume that cannot be windowed, as far as its lowest and highest value tell."""
        values = volume.as_tensor() if isinstance(volume, MetaTensor) else volume
        as_it_lies = sorted(range(values.ndim), key=values.stride, reverse=True)  # 50 times as fast
        lowest, highest = torch.aminmax(values.permute(as_it_lies))
        if not (lowest.isfinite() and highest.isfinite()):  # NaN reaches both
            raise ValueError(
                f"a volume's intensities must be finite, got {float(lowest):g} to {float(highest):g}{origin(volume)}; "
                "repair the file or leave the case out."
            )
        if self.hu is not None:
            outside = highest < self.hu.a_min or lowest > self.hu.a_max
            if outside and volume.ndim > 3:  # a slice may lie in air
                raise ValueError(
                    f"no voxel lies within the window {self.hu.a_min:g} to {self.hu.a_max:g}, they are "
                    f"{float(lowest):g} to {float(highest):g}{origin(volume)}; is it of this modality and scale? If "
                    "not, leave the case out."
                )
        elif lowest == highest:
            raise ValueError(
                f"a volume's intensities{origin(volume)} cannot be scaled where they are all {float(lowest):g}; "
                "leave the case out."
            )


class Windowd(MapTransform):
    """Dictionary-based :py:class:`Window`: ``Windowd("image", **manifest.window)``."""

    def __init__(
        self,
        keys: KeysCollection,
        hu: Sequence[float] | None = None,
        percentiles: Sequence[float] | None = None,
        zscore: bool = False,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.window = Window(hu, percentiles, zscore)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the dictionary with its volumes on their new scale."""
        return {**data, **{key: self.window(data[key]) for key in self.key_iterator(data)}}
