import pytest
import torch

from medssl.transforms import RandTilesBatch


def images(size=(2, 1, 32, 47)):
    """Every pixel holds its own place."""
    count, channels, height, width = size
    return torch.arange(height * width).float().view(1, 1, height, width).repeat(count, channels, 1, 1)


def test_every_tile_is_a_part_of_its_own_cell_row_by_row():
    torch.manual_seed(0)
    tiles = RandTilesBatch(tile_size=7)(images())
    assert tiles.shape == (2, 9, 1, 7, 7)
    for tile, cell in ((tile, cell) for image in tiles for cell, tile in enumerate(image)):
        top, left = divmod(int(tile[0, 0, 0]), 47)
        assert cell // 3 * 10 <= top <= cell // 3 * 10 + 3
        assert cell % 3 * 15 <= left <= cell % 3 * 15 + 8
        assert torch.equal(tile[0], images()[0, 0, top : top + 7, left : left + 7])


def test_places_are_drawn_anew_for_every_tile_and_reach_both_ends_of_a_cell():
    torch.manual_seed(0)
    corners = RandTilesBatch(tile_size=7)(images((200, 1, 32, 47)))[:, :, 0, 0, 0].long()
    offsets = corners // 47 - torch.arange(9) // 3 * 10
    assert set(offsets.flatten().tolist()) == {0, 1, 2, 3}
    assert offsets.float().mean().item() == pytest.approx(1.5, abs=0.1)
    assert not torch.equal(offsets[:, 0], offsets[:, 1])


def test_a_tile_as_large_as_its_cell_leaves_nothing_to_draw():
    assert torch.equal(RandTilesBatch(10)(images((1, 2, 30, 30)))[0, 4], images((1, 2, 30, 30))[0, :, 10:20, 10:20])


def test_refuses_tiles_that_the_image_cannot_hold():
    with pytest.raises(
        ValueError, match=r"3 tiles of 11 pixels along each axis, got \(2, 1, 32, 47\); lower tile_size"
    ):
        RandTilesBatch(tile_size=11)(images())
    with pytest.raises(ValueError, match="tile_size must be at least 1, got 0"):
        RandTilesBatch(tile_size=0)
