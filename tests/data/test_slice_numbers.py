import pytest
import torch

from medssl.data import SliceNumbers


def test_slices_are_numbered_through_in_the_order_of_the_volumes():
    numbers = SliceNumbers(["b", "a"], [3, 2])
    assert numbers.count == 5
    assert numbers(["a", "b", "b"], torch.tensor([1, 0, 2])).tolist() == [4, 0, 2]


def test_refuses_two_volumes_of_one_name():
    with pytest.raises(ValueError, match="every volume needs a case_id of its own"):
        SliceNumbers(["a", "a"], [3, 2])
