import math

import pytest
import torch

from medssl.label import organ_uncertainty


def volume(*organs, size=(4, 10, 10)):
    """Probabilities of classes: of each organ a number of voxels and its probability there, background elsewhere."""
    probabilities = torch.zeros(1 + len(organs), math.prod(size))
    start = 0
    for number, (voxels, probability) in enumerate(organs, start=1):
        probabilities[number, start : start + voxels] = probability
        start += voxels
    probabilities[0] = 1 - probabilities[1:].sum(dim=0)
    return probabilities.unflatten(1, size)


def entropy(p):
    return -p * math.log2(p) - (1 - p) * math.log2(1 - p)


def test_it_is_the_mean_over_organs_of_the_entropy_within_them():
    assert organ_uncertainty(volume((30, 0.5), (10, 0.9))) == pytest.approx((1 + entropy(0.9)) / 2)


def test_a_certain_organ_adds_nothing_whatever_its_number():
    assert organ_uncertainty(volume(*[(0, 0.0)] * 10, (100, 1.0))) == 0


def test_the_volume_of_organs_and_of_background_does_not_enter():
    small, large = volume((10, 0.7)), volume((100, 0.7), size=(8, 20, 20))
    assert organ_uncertainty(small) == pytest.approx(organ_uncertainty(large))


def test_a_doubtful_band_without_a_voxel_of_its_own_counts():
    assert organ_uncertainty(volume((20, 0.4))) == pytest.approx(entropy(0.4))


def test_an_empty_scan_outranks_no_other():
    assert organ_uncertainty(volume((0, 0.0))) == 0
    assert organ_uncertainty(volume((400, 0.001))) == 0  # a trace of doubt everywhere


@pytest.mark.parametrize("values", [torch.randint(0, 12, (3, 4, 4)).float() + 1, torch.ones(5)])
def test_label_ids_are_no_probabilities(values):
    with pytest.raises(ValueError, match="give the softmax, not label ids"):
        organ_uncertainty(values)
