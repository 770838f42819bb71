"""A cached data set whose randomness belongs to the sample, not to the worker that happens to draw it."""

from collections.abc import Sequence
from typing import Any

from monai.data import CacheDataset
from monai.transforms import Compose

from medssl.data.samplers import Draw


class SeededCacheDataset(CacheDataset):
    """MONAI's ``CacheDataset``, indexed by (index, seed) as the samplers of medssl draw them.

    The deterministic transforms at the front run once and stay in memory; the random ones behind them are seeded anew
    for every draw. So a run gives the same samples with any number of workers, and after a resume.

    Args:
        data: records, one dictionary a volume.
        transform: deterministic transforms first, random ones after them.
        progress: show a bar while the cache is filled.
    """

    def __init__(self, data: Sequence[dict[str, Any]], transform: Compose | Sequence, progress: bool = True) -> None:
        if not data:
            raise ValueError("a data set takes at least one record, got none; check the manifest and the split.")
        # The slices are taken out as copies: nothing writes into the cached volumes.
        super().__init__(data, transform, copy_cache=False, progress=progress, num_workers=0)

    def __getitem__(self, index: int | Draw) -> Any:
        """Return the sample of a draw, or of a plain index with the transforms' random state as it stands."""
        if isinstance(index, tuple):
            index, seed = index
            self.transform.set_random_state(seed)
        return self._transform(index)

    def depths(self, key: str = "image") -> list[int]:
        """Number of slices of every cached volume, ``(C, D, H, W)``."""
        return [int(item[key].shape[1]) for item in self._cache]
