import pytest
import torch

from medssl.transforms import RandLocalShuffleBatch


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def places(count=20, *size):
    """Every pixel holds its own place, row and column in two channels."""
    axes = torch.meshgrid(*(torch.arange(float(side)) for side in size), indexing="ij")
    return torch.stack(axes).expand(count, -1, *size).clone()


@pytest.mark.parametrize("size", [(40, 30), (20, 20, 10)])
def test_every_pixel_stays_within_a_window_of_its_place_and_none_is_lost(size):
    images = places(20, *size)
    shuffled = RandLocalShuffleBatch(probability=1, largest=0.2)(images)
    moved = (shuffled - images).abs()
    for axis, side in enumerate(size):
        assert 0 < moved[:, axis].max() <= 0.2 * side
    for before, after in zip(images, shuffled, strict=True):
        pixels = [image.flatten(1).T.tolist() for image in (before, after)]
        assert sorted(pixels[0]) == sorted(pixels[1])


def test_windows_differ_from_image_to_image_and_the_probability_is_kept():
    shuffled = RandLocalShuffleBatch(probability=0.5)(places(200, 30, 30))
    touched = (shuffled != places(200, 30, 30)).flatten(1).any(dim=1)
    assert touched.float().mean().item() == pytest.approx(0.5, abs=0.12)
    assert len({tuple(image.flatten().tolist()) for image in shuffled[touched]}) == touched.sum()


def test_refuses_what_is_no_part():
    with pytest.raises(ValueError, match=r"largest must be a part of the side, in \(0, 1\], got 0"):
        RandLocalShuffleBatch(largest=0)
    with pytest.raises(ValueError, match=r"probability must lie in \[0, 1\], got 2"):
        RandLocalShuffleBatch(2)
