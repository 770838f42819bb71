import pytest
import torch

from medssl.methods import RelativeLocation
from medssl.networks import UNetEncoder, relative_location_head


def make_relative_location():
    torch.manual_seed(0)
    return RelativeLocation(UNetEncoder(width=2, centre_norm=True), relative_location_head(32, 16, dropout=0.0))


@pytest.mark.usefixtures("double")
def test_two_steps_equal_those_by_hand(make_batch, assert_two_steps_equal):
    tiles = make_batch()["tiles"]

    def loss_by_hand(method):
        pooled = method.encoder(tiles.flatten(0, 1))[-1].mean(dim=(2, 3)).unflatten(0, (4, 9))
        places = [0, 1, 2, 3, 5, 6, 7, 8]
        pairs = torch.stack([torch.cat([pooled[i, 4], pooled[i, tile]]) for i in range(4) for tile in places])
        logits = method.head(pairs)
        return sum(torch.log(logits[i].exp().sum()) - logits[i, i % 8] for i in range(32)) / 32

    assert_two_steps_equal(make_relative_location(), {"tiles": tiles}, loss_by_hand)


def test_the_head_is_that_of_the_recipe():
    head = relative_location_head(2048)
    assert [(layer.in_features, layer.out_features) for layer in head if hasattr(layer, "out_features")] == [
        (4096, 4096),
        (4096, 8),
    ]


def test_refuses_other_grids_than_three_by_three():
    with pytest.raises(ValueError, match=r"nine of a 3 x 3 grid, .*, got \(2, 4, 1, 16, 16\)"):
        make_relative_location()({"tiles": torch.zeros(2, 4, 1, 16, 16)})
