import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from medssl.transforms import SameGridd


def volume(shape=(1, 8, 9, 4), shift=(0.0, 0.0, 0.0), spacing=(1.5, 1.5, 8.0)):
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = shift
    return MetaTensor(torch.zeros(shape), affine=affine, meta={"filename_or_obj": "gt.nii.gz"})


def test_a_label_on_its_images_grid_passes():
    data = {"image": volume(shape=(3, 8, 9, 4)), "label": volume(shift=(0.0005, 0.0, 0.0)), "case_id": "a"}
    assert SameGridd(["image", "label"])(data) == data


def test_a_label_whose_axes_are_swapped_is_refused_though_its_far_corner_is_in_place():
    image, label = volume(shape=(1, 8, 8, 4)), volume(shape=(1, 8, 8, 4))
    label.affine = label.affine[:, [1, 0, 2, 3]]
    with pytest.raises(ValueError, match="got affines 12 mm apart"):
        SameGridd(["image", "label"])({"image": image, "label": label})


@pytest.mark.parametrize(
    ("label", "message"),
    [
        (volume(shape=(1, 8, 9, 5)), r"one shape, got \(8, 9, 4\) in gt.nii.gz and \(8, 9, 5\)"),
        (volume(shift=(0, 0, 30.0)), r"one grid, got affines 30 mm apart in gt.nii.gz"),
        (volume(spacing=(3.0, 1.5, 8.0)), "got affines 12 mm apart"),
    ],
)
def test_another_shape_place_or_spacing_is_refused(label, message):
    with pytest.raises(ValueError, match=message):
        SameGridd(["image", "label"])({"image": volume(), "label": label})
