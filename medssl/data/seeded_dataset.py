"""A cached data set whose randomness belongs to the sample, not to the worker that happens to draw it."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from monai.data import CacheDataset
from monai.transforms import Compose, Randomizable
from torch import Tensor
from tqdm.auto import tqdm

from medssl.data.samplers import Draw


class SeededCacheDataset(CacheDataset):
    """MONAI's ``CacheDataset``, indexed by (index, seed) as the samplers of medssl draw them.

    The deterministic transforms at the front run once and stay in memory; the random ones behind them draw from one
    random state, seeded anew for every sample. So a run gives the same samples with any number of workers, and after a
    resume.

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
        self.random = np.random.RandomState()

    def __getitem__(self, index: int | Draw) -> Any:
        """Return the sample of a draw, or of a plain index with the random state as it stands."""
        if isinstance(index, tuple):
            index, seed = index
            self.random.seed(seed)
            # Each time: MONAI's DataLoader gives the transforms states of their own.
            share_random_state(self.transform, self.random)
        return self._transform(index)

    def _fill_cache(self, indices: Sequence[int] | None = None) -> list[Any]:
        """Load the volumes one after the other: an error in MONAI's pool of threads ends Python with SIGABRT."""
        wanted = range(self.cache_num) if indices is None else indices
        return [self._load_cache_item(i) for i in tqdm(wanted, "loading", disable=not self.progress, unit="volume")]

    def _load_cache_item(self, idx: int) -> Any:
        """Load a volume; whatever goes wrong, say with which case."""
        try:
            return super()._load_cache_item(idx)
        except Exception as error:
            record = self.data[idx]
            files = ", ".join(str(record[key]) for key in ("image", "label") if key in record)
            # No RuntimeError: of those, MONAI's, the command line shows what is behind them.
            reason = " ".join(str(root_cause(error)).split())  # some break lines: the last one says it all
            raise ValueError(f"case {record.get('case_id', idx)} ({files}) cannot be used: {reason}") from error

    def read(self, index: int, place: int) -> dict[str, Tensor]:
        """Return slice ``place`` of the cached ``image`` of volume ``index``, :math:`(C, H, W)`."""
        return {"image": self._cache[index]["image"][:, place]}

    def depths(self) -> list[int]:
        """Number of slices of every cached ``image``, ``(C, D, H, W)``."""
        return [int(item["image"].shape[1]) for item in self._cache]


def root_cause(error: BaseException) -> BaseException:
    """Return the error that the others were raised from: MONAI's name the transform, the first one names the reason."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def share_random_state(transform: Any, state: np.random.RandomState) -> None:
    """Let a transform, and what it is composed of, draw from one state: seeding each of many takes milliseconds."""
    if isinstance(transform, Compose):
        transform.R = state
        for part in transform.transforms:
            share_random_state(part, state)
    elif isinstance(transform, Randomizable):
        transform.set_random_state(state=state)
