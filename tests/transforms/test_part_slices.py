import numpy as np
import pytest
import torch

from medssl.transforms import RandPartSlices, RandPartSlicesd


def volume(depth):
    """Slices that hold their own number."""
    return torch.arange(float(depth))[None, :, None, None].expand(1, depth, 2, 2)


@pytest.mark.parametrize("depth", [4, 7, 10, 40])
def test_every_slice_of_a_part_is_drawn_as_often_and_what_is_left_at_the_end_never(depth):
    draw = RandPartSlices().set_random_state(0)
    drawn = np.array([[int(image[0, 0, 0]) for image in draw(volume(depth))] for _ in range(2000)])
    length = depth // 4
    for part in range(4):
        values, counts = np.unique(drawn[:, part], return_counts=True)
        assert values.tolist() == list(range(part * length, (part + 1) * length))
        assert np.abs(counts / 2000 - 1 / length).max() < 0.05


def test_of_too_few_slices_the_last_is_drawn_again():
    assert [int(image[0, 0, 0]) for image in RandPartSlices()(volume(2))] == [0, 1, 1, 1]


def test_the_dictionary_knows_the_place_and_slices_every_key_alike():
    data = {"image": volume(9), "mask": volume(9) + 1, "case_id": "a"}
    drawn = RandPartSlicesd(["image", "mask"]).set_random_state(1)(data)
    assert [slices["index"] // 2 for slices in drawn] == [0, 1, 2, 3]
    for slices in drawn:
        assert slices["image"].shape == (1, 2, 2)
        assert int(slices["image"][0, 0, 0]) == slices["index"] == int(slices["mask"][0, 0, 0]) - 1
        assert (slices["depth"], slices["case_id"]) == (9, "a")


def test_the_seed_decides_the_draw():
    one, two = (RandPartSlicesd("image").set_random_state(3)({"image": volume(40)}) for _ in range(2))
    assert [slices["index"] for slices in one] == [slices["index"] for slices in two]


def test_refuses_no_part_and_no_slice():
    with pytest.raises(ValueError, match="num_parts must be at least 2, got 1; the paper takes 4"):
        RandPartSlices(1)
    with pytest.raises(ValueError, match="axis counts the spatial axes from 0, got -1"):
        RandPartSlices(axis=-1)
    with pytest.raises(ValueError, match="must have slices to draw from, got 0"):
        RandPartSlices()(volume(0))
