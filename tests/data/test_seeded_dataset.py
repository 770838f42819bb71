import pytest
import torch
from monai.data import DataLoader
from monai.transforms import Compose, OneOf, RandFlipd, RandGaussianNoised, RandScaleIntensityd

from medssl.data import SeededCacheDataset, VolumeSampler


@pytest.fixture
def dataset():
    """Random transforms, some of them inside a choice between two."""
    data = [{"image": torch.full((1, 2, 4, 4), float(n))} for n in range(5)]
    choice = OneOf([RandGaussianNoised("image", prob=1.0), RandScaleIntensityd("image", factors=0.5, prob=1.0)])
    transform = Compose([RandFlipd("image", prob=0.5), choice, RandGaussianNoised("image", prob=0.5)])
    return SeededCacheDataset(data, transform, progress=False)


def test_the_seed_decides_the_sample_whatever_was_drawn_before(dataset):
    first = dataset[3, 11]["image"]
    for seed in range(20):
        _ = dataset[seed % 5, seed]
    assert torch.equal(dataset[3, 11]["image"], first)
    assert not torch.equal(dataset[3, 12]["image"], first)


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_draw_what_the_main_process_draws(dataset, workers):
    def batches(count):
        loader = DataLoader(dataset, batch_size=3, sampler=VolumeSampler(5, 12, seed=4), num_workers=count)
        return torch.cat([batch["image"] for batch in loader])

    assert torch.equal(batches(0), batches(workers))


def test_the_cache_is_never_written_to(dataset):
    for seed in range(3):
        _ = dataset[2, seed]
    assert torch.equal(dataset._cache[2]["image"], torch.full((1, 2, 4, 4), 2.0))


def test_depths_are_those_of_the_cached_volumes(dataset):
    assert dataset.depths() == [2] * 5


def test_an_empty_data_set_is_refused():
    with pytest.raises(ValueError, match="at least one record, got none; check the manifest and the split"):
        SeededCacheDataset([], Compose([]))
