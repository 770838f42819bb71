import pytest
import torch
from scipy.ndimage import gaussian_filter

from medssl.transforms import RandIntensityBatch
from medssl.transforms.intensity_batch import gaussian_blur


def test_brightness_and_contrast_stay_in_their_ranges_and_differ_between_images():
    images = torch.randn(64, 1, 16, 16)
    changed = RandIntensityBatch(brightness=0.5, contrast=0.25, probability=1.0, blur_probability=0.0)(images)
    contrast = changed.std(dim=(1, 2, 3)) / images.std(dim=(1, 2, 3))
    shift = (changed.mean(dim=(1, 2, 3)) - images.mean(dim=(1, 2, 3))) / images.std(dim=(1, 2, 3))
    assert (contrast >= 0.75).all()
    assert (contrast <= 1.25).all()
    assert shift.abs().max() <= 0.5
    assert contrast.std() > 0.1
    assert shift.std() > 0.2


def test_a_probability_of_zero_leaves_the_images_alone():
    images = torch.randn(4, 1, 16, 16)
    torch.testing.assert_close(RandIntensityBatch(probability=0.0, blur_probability=0.0)(images), images)


def test_each_image_is_blurred_by_its_own_gaussian():
    images, sigma = torch.rand(2, 2, 24, 20), torch.tensor([0.7, 1.8])
    blurred = gaussian_blur(images, sigma, radius=6)
    for image, result, s in zip(images, blurred, sigma.tolist(), strict=True):
        for channel, ours in zip(image, result, strict=True):
            expected = gaussian_filter(channel.numpy(), s, mode="nearest", radius=6)
            torch.testing.assert_close(ours, torch.from_numpy(expected), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"contrast": 1.0}, r"contrast lie in \[0, 1\), got 0.4 and 1.0"),
        ({"probability": 2.0}, r"probabilities must lie in \[0, 1\], got 2.0"),
        ({"blur": (0.0, 1.0)}, "blur must be a positive smallest"),
    ],
)
def test_refuses_settings_that_make_no_draw(arguments, message):
    with pytest.raises(ValueError, match=message):
        RandIntensityBatch(**arguments)


def test_refuses_volumes():
    with pytest.raises(ValueError, match=r"a batch of slices \(B, C, H, W\), got \(2, 1, 4, 8, 8\)"):
        RandIntensityBatch()(torch.rand(2, 1, 4, 8, 8))
