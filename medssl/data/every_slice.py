"""All slices of a data set, one after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from monai.transforms import Compose
from torch import Tensor

from medssl.data.seeded_dataset import SeededCacheDataset
from medssl.data.slice_store import StoredSlices, untracked


class EverySlice:
    """Batches of all slices of a data set, in the order of its volumes, none drawn at random.

    Args:
        dataset: that training draws from.
        transform: what else is done to a slice, a dictionary with ``image`` :math:`(C, H, W)`.
        batch_size: slices; the last batch may be smaller.
    """

    def __init__(
        self, dataset: SeededCacheDataset | StoredSlices, transform: Sequence[Callable], batch_size: int
    ) -> None:
        self.dataset, self.transform, self.batch_size = dataset, Compose(transform), batch_size

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        """Yield dictionaries with ``image`` :math:`(n, C, H, W)`."""
        batch: list[Tensor] = []
        for number, depth in enumerate(self.dataset.depths()):
            for place in range(depth):
                with untracked():
                    batch.append(self.transform({"image": self.dataset.read(number, place)["image"]})["image"])
                if len(batch) == self.batch_size:
                    yield {"image": torch.stack(batch)}
                    batch = []
        if batch:
            yield {"image": torch.stack(batch)}
