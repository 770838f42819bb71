import pytest
import torch

from medssl.transforms import RandPaintingBatch, painting_batch

FLAT = torch.full((200, 1, 42, 42), 2.0)  # noise lies below 1: what is 2 was not painted


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def test_out_painting_leaves_large_boxes_and_in_painting_takes_small_ones():
    left = [(RandPaintingBatch(1, outer)(FLAT) == 2).float().mean(dim=(1, 2, 3)) for outer in (1, 0)]
    assert (left[0] >= (17 / 42) ** 2).all()  # a box of 3/7, but for its rounding to pixels
    assert 0.4 < left[0].mean() < 0.8
    assert (left[1] <= 1 - (6 / 42) ** 2).all()
    assert left[1].min() >= 1 - 5 * (15 / 42) ** 2
    assert 0.65 < left[1].mean() < 0.9


def test_a_single_box_is_a_rectangle(monkeypatch):
    monkeypatch.setattr(painting_batch, "MOST", 1)
    for image in RandPaintingBatch(1, 0)(FLAT):
        painted = image[0] < 2
        rows, columns = (painted.any(dim=axis) for axis in (1, 0))
        assert rows.sum() >= 6
        assert torch.equal(painted, rows[:, None] & columns)


def test_probabilities_are_kept_and_noise_differs_from_pixel_to_pixel():
    touched = (RandPaintingBatch(0.5, 0.5)(FLAT) != 2).flatten(1)
    assert touched.any(dim=1).float().mean().item() == pytest.approx(0.5, abs=0.1)
    painted = RandPaintingBatch(1, 1)(FLAT)
    noise = painted[painted < 2]
    assert noise.unique().numel() > 0.9 * noise.numel()
    assert 0 <= noise.min() < noise.max() < 1
    assert torch.equal(RandPaintingBatch(0)(FLAT), FLAT)


def test_volumes_are_painted_by_boxes_as_well():
    volumes = RandPaintingBatch(1, 0)(torch.full((50, 1, 12, 12, 12), 2.0))
    part = (volumes < 2).float().mean()
    assert 0 < part < 5 / 27


def test_refuses_what_is_no_part():
    with pytest.raises(ValueError, match=r"probability and outer must lie in \[0, 1\], got 2 and 0.8"):
        RandPaintingBatch(2)
