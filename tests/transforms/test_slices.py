from collections import Counter

import pytest
import torch
from monai.data import CacheDataset, DataLoader, MetaTensor
from monai.transforms import Compose, Identityd

from medssl.losses.global_positional import GlobalPositionalLoss, positional_pairs
from medssl.transforms import RandSlicePair, RandSlicePaird, RandSlices, RandSlicesd


def volume(depth=10, height=4, width=6):
    """Every voxel of a slice holds the number of the slice."""
    return torch.arange(depth, dtype=torch.float32)[None, :, None, None].expand(2, depth, height, width)


def chi_square(counts, cells):
    """Pearson's statistic against the uniform distribution."""
    expected = sum(counts.values()) / cells
    return sum((counts[cell] - expected) ** 2 / expected for cell in counts) + (cells - len(counts)) * expected


def test_each_slice_knows_its_place_and_the_record_goes_along():
    data = {"image": volume(), "label": volume() * 10, "subject_id": "s1"}
    items = RandSlicesd(["image", "label"], num_samples=4).set_random_state(0)(data)
    assert len(items) == 4
    for item in items:
        assert item["image"].shape == (2, 4, 6)
        assert (item["image"] == item["index"]).all()
        assert (item["label"] == 10 * item["index"]).all()
        assert (item["depth"], item["subject_id"]) == (10, "s1")
        assert type(item["index"]) is int


def test_repeats_a_slice_only_where_there_are_too_few():
    draw = RandSlices(10).set_random_state(0)
    draw(volume(10))
    assert sorted(draw.indices) == list(range(10))
    assert len(draw(volume(3))) == 10


def test_slices_are_drawn_uniformly():
    draw = RandSlices(1).set_random_state(0)
    counts = Counter()
    for _ in range(2000):
        draw.randomize(10)
        counts.update(draw.indices)
    assert chi_square(counts, 10) < 27.9  # 99.9 % quantile, 9 degrees of freedom


def test_any_axis_can_be_sliced():
    out = RandSlices(1, axis=2).set_random_state(0)(torch.arange(6.0).expand(1, 3, 4, 6))
    assert out[0].shape == (1, 3, 4)
    assert out[0].unique().numel() == 1


@pytest.mark.parametrize(
    ("threshold", "depth", "widest"), [(0.35, 10, 3), (0.1, 10, 0), (0.1, 11, 1), (0.3, 10, 2), (2.0, 5, 4)]
)
def test_pairs_are_closer_than_the_threshold_and_all_as_likely(threshold, depth, widest):
    draw = RandSlicePair(threshold).set_random_state(0)
    if widest == 0:
        with pytest.raises(ValueError, match=f"less than 0.1 of the volume apart, got {depth} slices"):
            draw.randomize(depth)
        return
    counts = Counter()
    for _ in range(3000):
        draw.randomize(depth)
        counts[frozenset(draw.indices)] += 1
    pairs = [frozenset((i, j)) for i in range(depth) for j in range(i) if i - j <= widest]
    assert set(counts) == set(pairs)
    assert chi_square(counts, len(pairs)) < 2.5 * len(pairs) + 15


def test_a_pair_comes_as_two_slices_with_their_places():
    items = RandSlicePaird(["image"], threshold=0.35).set_random_state(1)({"image": volume()})
    assert len(items) == 2
    assert 0 < abs(items[0]["index"] - items[1]["index"]) < 3.5
    assert all((item["image"] == item["index"]).all() for item in items)


def test_a_single_slice_has_no_pair():
    with pytest.raises(ValueError, match="got 1 slices: leave the volume out, or raise the threshold"):
        RandSlicePair(0.5)(volume(1))


@pytest.mark.parametrize("transform", [RandSlicesd("image", 3), RandSlicePaird("image", 0.35)])
def test_the_seed_decides_the_draw(transform):
    first = [item["index"] for item in transform.set_random_state(5)({"image": volume()})]
    assert [item["index"] for item in transform.set_random_state(5)({"image": volume()})] == first


@pytest.mark.parametrize(
    ("array", "dictionary"),
    [(RandSlices(3), RandSlicesd("image", 3)), (RandSlicePair(0.35), RandSlicePaird("image", 0.35))],
)
def test_array_and_dictionary_draw_alike(array, dictionary):
    slices = array.set_random_state(3)(volume())
    items = dictionary.set_random_state(3)({"image": volume()})
    assert all(torch.equal(one, item["image"]) for one, item in zip(slices, items, strict=True))


def test_compose_cache_and_loader_take_it():
    transform = Compose([Identityd("image"), RandSlicesd("image", 5)])
    dataset = CacheDataset([{"image": volume(), "case_id": name} for name in "abcd"], transform, progress=False)
    batch = next(iter(DataLoader(dataset, batch_size=2, shuffle=True)))
    assert batch["image"].shape == (10, 2, 4, 6)
    assert torch.equal(batch["image"][:, 0, 0, 0].long(), batch["index"])
    assert len(batch["case_id"]) == 10


def test_refuses_volumes_that_do_not_match():
    with pytest.raises(ValueError, match=r"must have one depth, got \{'image': 10, 'label': 9\}"):
        RandSlicesd(["image", "label"])({"image": volume(10), "label": volume(9)})
    with pytest.raises(ValueError, match="num_samples must be at least 1, got 0"):
        RandSlices(0)
    with pytest.raises(ValueError, match="threshold must be positive, 1e-06 at least, got 0"):
        RandSlicePair(0)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("kind", ["metatensor", "tensor", "numpy"])
@pytest.mark.parametrize("channels", [1, 2])
def test_slices_are_plain_contiguous_copies(axis, kind, channels):
    stored = volume(5, 6, 7)[:channels].clone()
    given = {"metatensor": MetaTensor(stored), "tensor": stored, "numpy": stored.numpy()}[kind]
    for draw in (RandSlices(2, axis), RandSlicePair(0.9, axis)):
        for one in draw.set_random_state(0)(given):
            assert type(one) is torch.Tensor
            assert one.is_contiguous()
            one.fill_(-1)
    assert torch.equal(stored, volume(5, 6, 7)[:channels])  # nothing done to a slice reaches the cached volume


@pytest.mark.parametrize("threshold", [0.07, 0.29, 0.35, 0.57, 0.1 + 0.2])
def test_pairs_are_those_of_the_positional_loss_also_where_floats_misjudge(threshold):
    """0.07 * 100 is 7.000000000000001 as a float: slices 7 apart would pass."""
    draw, depth = RandSlicePair(threshold).set_random_state(0), 100
    places = torch.arange(depth)
    admissible = positional_pairs(places, torch.full_like(places, depth), GlobalPositionalLoss(threshold).threshold)
    widest = 0
    for _ in range(2000):
        draw.randomize(depth)
        i, j = draw.indices
        assert i != j
        assert admissible[i, j]
        widest = max(widest, abs(i - j))
    assert widest == max(d for d in range(1, depth) if admissible[0, d])


def test_either_slice_of_a_pair_may_come_first():
    draw = RandSlicePair(0.35).set_random_state(0)
    ascending = 0
    for _ in range(1000):
        draw.randomize(20)
        ascending += draw.indices[0] < draw.indices[1]
    assert 430 < ascending < 570  # 4.4 standard deviations


@pytest.mark.parametrize("transform", [RandSlicesd("image", 3), RandSlicePaird("image", 0.35)])
def test_the_seed_of_a_compose_decides_the_draw(transform):
    chain = Compose([transform])

    def places(seed):
        chain.set_random_state(seed)
        return [[item["index"] for item in chain({"image": volume(100)})] for _ in range(4)]

    assert places(1) == places(1)
    assert places(1) != places(2)


def test_a_repeated_call_slices_as_in_the_last_draw():
    draw = RandSlices(3).set_random_state(0)
    first = draw(volume())
    again = draw(10 * volume(), randomize=False)
    assert all(torch.equal(10 * one, other) for one, other in zip(first, again, strict=True))


def test_pairs_collate_with_their_places_through_a_worker():
    records = [{"image": MetaTensor(volume(depth)), "subject_id": str(depth)} for depth in (6, 9)]
    dataset = CacheDataset(records, Compose([RandSlicePaird("image", 0.5)]), progress=False, num_workers=0)
    batch = next(iter(DataLoader(dataset, batch_size=2, num_workers=1)))
    assert type(batch["image"]) is torch.Tensor
    assert batch["depth"].tolist() == [6, 6, 9, 9]
    assert batch["subject_id"] == ["6", "6", "9", "9"]
    assert batch["index"].dtype == torch.int64
    assert torch.equal(batch["image"][:, 0, 0, 0].long(), batch["index"])


def test_a_missing_key_is_passed_over_only_where_that_is_allowed():
    item = RandSlicesd(["image", "label"], allow_missing_keys=True)({"image": volume()})[0]
    assert set(item) == {"image", "index", "depth"}
    with pytest.raises(KeyError, match="label"):
        RandSlicesd(["image", "label"])({"image": volume()})
    with pytest.raises(ValueError, match=r"must have one depth, got \{\} for keys \('image',\)"):
        RandSlicesd("image", allow_missing_keys=True)({"label": volume()})


@pytest.mark.parametrize("transform", [RandSlices, lambda axis=0: RandSlicePair(0.5, axis)])
def test_refuses_what_cannot_be_sliced(transform):
    with pytest.raises(ValueError, match="axis counts the spatial axes from 0, got -1"):
        transform(axis=-1)
    with pytest.raises(ValueError, match=r"3 spatial dimensions or more, got \(4, 6, 8\); add the channel"):
        transform(axis=2)(torch.zeros(4, 6, 8))
    with pytest.raises(ValueError, match="got 0"):
        transform()(torch.zeros(1, 0, 4, 4))


@pytest.mark.parametrize("threshold", [-0.1, float("nan"), float("inf")])
def test_refuses_a_threshold_that_is_no_distance(threshold):
    with pytest.raises(ValueError, match="threshold must be positive, 1e-06 at least, got"):
        RandSlicePair(threshold)
