from collections import Counter

import pytest
import torch
from monai.data import DataLoader
from monai.transforms import Compose, RandGaussianNoised

from medssl.data import SeededCacheDataset, SubjectPairSampler, VolumeSampler


def test_a_batch_holds_one_volume_of_each_of_two_subjects():
    subjects = ["a", "a", "b", "c", "c"]
    sampler = SubjectPairSampler(subjects, num_batches=200, seed=1)
    batches = list(sampler)
    assert len(batches) == len(sampler) == 200
    assert all(subjects[first] != subjects[second] for (first, _), (second, _) in batches)
    drawn = Counter(subjects[index] for batch in batches for index, _ in batch)
    assert all(100 < drawn[subject] < 170 for subject in "abc")  # subjects, not volumes, are equally likely


def test_two_subjects_are_needed():
    with pytest.raises(ValueError, match=r"two different subjects, got \['a'\]"):
        SubjectPairSampler(["a", "a"], 1)


def test_without_weights_every_round_holds_each_volume_once():
    draws = [index for index, _ in VolumeSampler(4, num_draws=10, seed=0)]
    assert sorted(draws[:4]) == sorted(draws[4:8]) == [0, 1, 2, 3]
    assert len(draws) == 10


def test_weights_make_the_draw_one_from_the_pool_of_slices():
    draws = Counter(index for index, _ in VolumeSampler(2, num_draws=4000, weights=[10, 30]))
    assert draws[1] / 4000 == pytest.approx(0.75, abs=0.03)


@pytest.mark.parametrize(
    "make", [lambda: VolumeSampler(5, 20, seed=7), lambda: SubjectPairSampler("abcde", 20, seed=7)]
)
def test_the_epoch_and_the_seed_decide_every_draw(make):
    one, two = make(), make()
    assert list(one) == list(two)
    two.set_epoch(2)
    assert list(one) != list(two)
    one.set_epoch(2)
    assert list(one) == list(two)


def test_refuses_what_cannot_be_drawn():
    with pytest.raises(ValueError, match="got 0 and 5"):
        VolumeSampler(0, 5)
    with pytest.raises(ValueError, match="one for each of 3 volumes, got 2"):
        VolumeSampler(3, 5, weights=[1, 2])


@pytest.fixture
def dataset():
    data = [{"image": torch.zeros(1, 4, 8, 8)} for _ in range(3)]
    return SeededCacheDataset(data, Compose([RandGaussianNoised("image", prob=1.0)]), progress=False)


def test_the_seed_of_the_draw_decides_the_sample(dataset):
    assert torch.equal(dataset[0, 5]["image"], dataset[0, 5]["image"])
    assert not torch.equal(dataset[0, 5]["image"], dataset[0, 6]["image"])


def test_the_cache_is_never_written_to(dataset):
    for seed in range(3):
        dataset[0, seed]
    assert dataset.depths() == [4, 4, 4]
    assert not dataset._cache[0]["image"].any()


@pytest.mark.parametrize("num_workers", [1, 2])
def test_any_number_of_workers_gives_the_same_epoch(dataset, num_workers):
    def epoch(workers):
        sampler = VolumeSampler(3, num_draws=8, seed=1)
        loader = DataLoader(dataset, sampler=sampler, batch_size=2, num_workers=workers, generator=torch.Generator())
        return torch.cat([batch["image"] for batch in loader])

    assert torch.equal(epoch(num_workers), epoch(0))


def test_an_empty_data_set_says_where_to_look():
    with pytest.raises(ValueError, match="check the manifest and the split"):
        SeededCacheDataset([], Compose([]))
