import pytest
import torch

from medssl.transforms import RandContrastiveCropBatch


def middles(box, count=2000, **changes):
    """Where the middles of crops lie, rows first: crops of an image whose channels are the place of each pixel."""
    torch.manual_seed(0)
    places = (torch.arange(64) + 0.5) / 64
    image = torch.stack(torch.meshgrid(places, places, indexing="ij")).expand(count, -1, -1, -1)
    crop = RandContrastiveCropBatch(**{"area": (0.04, 0.04), "ratio": (1.0, 1.0), "flip": 0.0} | changes)
    return crop(image, torch.tensor(box).expand(count, 4)).mean(dim=(2, 3))


def test_the_middle_lies_in_the_box_and_prefers_its_borders():
    found = middles([0.3, 0.5, 0.5, 0.9])
    for place, low, high in zip(found.T, (0.3, 0.5), (0.5, 0.9), strict=True):
        assert low - 1e-3 <= place.min() < place.max() <= high + 1e-3
        share = ((place - low) / (high - low) - 0.5).abs()
        expected = (torch.distributions.Beta(0.6, 0.6).sample((100_000,)) - 0.5).abs() > 0.4
        assert (share > 0.4).float().mean().item() == pytest.approx(expected.float().mean().item(), abs=0.04)


def test_a_rectangle_never_leaves_the_image():
    found = middles([0.0, 0.0, 0.05, 1.0])  # sides of a fifth
    assert (found - 0.5).abs().max() <= 0.4 + 1e-3
    torch.testing.assert_close(found[:, 0], torch.full((2000,), 0.1), atol=1e-3, rtol=0)


def test_without_a_box_it_lies_anywhere():
    found = middles([0.0, 0.0, 0.0, 0.0])
    assert found.std(dim=0).tolist() == pytest.approx([0.8 / 12**0.5] * 2, abs=0.01)  # uniform between .1 and .9


def test_half_of_the_crops_are_mirrored():
    torch.manual_seed(0)
    image = torch.linspace(-1, 1, 32).expand(200, 1, 32, 32)
    crops = RandContrastiveCropBatch()(image, torch.tensor([0.0, 0.0, 1.0, 1.0]).expand(200, 4))
    assert 0.35 < (crops[:, 0, 0, -1] < crops[:, 0, 0, 0]).float().mean() < 0.65


def test_refuses_a_concentration_that_is_none():
    with pytest.raises(ValueError, match="concentration must be positive, got 0"):
        RandContrastiveCropBatch(concentration=0)
