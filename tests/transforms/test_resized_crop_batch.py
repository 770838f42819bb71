import pytest
import torch

from medssl.transforms import RandResizedCropBatch


def ramps(count, height=32, width=48):
    """Images whose two channels are the place of each pixel, -1 to 1 across the image."""
    y, x = torch.meshgrid(torch.linspace(-1, 1, height), torch.linspace(-1, 1, width), indexing="ij")
    return torch.stack([y, x]).expand(count, -1, -1, -1)


def test_a_crop_is_a_rectangle_of_the_image_of_the_asked_area():
    torch.manual_seed(0)
    crops, _ = RandResizedCropBatch(area=(0.3, 0.6), flip=0.0)(ramps(200))
    height = (crops[:, 0, -1, 0] - crops[:, 0, 0, 0]) / 2
    width = (crops[:, 1, 0, -1] - crops[:, 1, 0, 0]) / 2
    assert (height * width).min() > 0.28
    assert (height * width).max() < 0.62
    assert ((width / height > 0.74) & (width / height < 1.35)).all()
    assert (height * width).std() > 0.05
    torch.testing.assert_close(crops[:, 0, :, :1].expand(-1, -1, 48), crops[:, 0], atol=1e-5, rtol=0)


def test_a_crop_near_the_whole_keeps_its_area():
    torch.manual_seed(0)
    crops, _ = RandResizedCropBatch(area=(0.95, 1.0), flip=0.0)(ramps(200))
    sides = (crops[:, 0, -1, 0] - crops[:, 0, 0, 0]) * (crops[:, 1, 0, -1] - crops[:, 1, 0, 0]) / 4
    assert sides.min() > 0.9


def test_half_of_the_crops_are_mirrored():
    torch.manual_seed(0)
    crops, _ = RandResizedCropBatch(flip=0.5)(ramps(200))
    mirrored = crops[:, 1, 0, -1] < crops[:, 1, 0, 0]
    assert 0.35 < mirrored.float().mean() < 0.65


def test_labels_are_cut_like_their_images_and_take_old_values_only():
    torch.manual_seed(0)
    labels = (ramps(8)[:, :1] > 0).int() + 2 * (ramps(8)[:, 1:] > 0).int()
    images = labels.float()
    crops, cut = RandResizedCropBatch()(images, labels)
    assert cut.dtype == torch.int32
    assert set(cut.unique().tolist()) <= {0, 1, 2, 3}
    assert (crops - cut).abs().lt(0.51).float().mean() > 0.97  # all but the pixels between two labels


def test_the_whole_image_is_the_image():
    images = torch.rand(2, 1, 8, 8)
    crops, none = RandResizedCropBatch(area=(1.0, 1.0), ratio=(1.0, 1.0), flip=0.0)(images)
    torch.testing.assert_close(crops, images)
    assert none is None


def test_refuses_a_part_that_is_none():
    with pytest.raises(ValueError, match="area must be a smallest and a largest part"):
        RandResizedCropBatch(area=(0.0, 1.0))
    with pytest.raises(ValueError, match="ratio must be a positive smallest"):
        RandResizedCropBatch(ratio=(2.0, 1.0))
    with pytest.raises(ValueError, match=r"flip must be a probability, in .* got 50"):
        RandResizedCropBatch(flip=50)
