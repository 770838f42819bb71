import math

import pytest
import torch
import torch.nn.functional as F

from medssl.methods import GCLLocal
from medssl.methods.gcl_local import region_centres, region_vectors
from medssl.networks import UNet, gcl_local_head


def make(finest=1, **changes):
    torch.manual_seed(0)
    network = UNet(4, width=2, centre_norm=True)
    return GCLLocal(network.encoder, network.decoder, gcl_local_head(2 * 2**finest, 4), finest, **changes)


@pytest.mark.usefixtures("double")
def test_two_steps_equal_those_by_hand(make_batch, assert_two_steps_equal):
    data = make_batch(n=2)
    sixths = region_centres().tolist()
    centres = [(16 * row // 6, 16 * column // 6) for row, column in sixths]  # of the map at half of 32 pixels

    def loss_by_hand(method):
        maps = [method.head(method.decoder(method.encoder(data[view]), 1)) for view in ("view_1", "view_2")]
        total = 0.0
        for image in range(2):
            z = [
                [F.normalize(m[image, :, r - 1 : r + 2, c - 1 : c + 2].flatten(), dim=0) for r, c in centres]
                for m in maps
            ]
            for view in (0, 1):
                for k in range(13):
                    near = sorted(range(13), key=lambda s, k=k: math.dist(sixths[k], sixths[s]))[1:6]
                    own = torch.exp(z[view][k] @ z[1 - view][k] / 0.1)
                    others = sum(torch.exp(z[view][k] @ z[v][s] / 0.1) for v in (0, 1) for s in near)
                    total = total - torch.log(own / (own + others))
        return total / (2 * 2 * 13)

    assert_two_steps_equal(make(), data, loss_by_hand)


def test_the_encoder_and_the_finer_levels_learn_nothing(make_batch):
    method = make()
    before = {name: tensor.clone() for name, tensor in method.encoder.state_dict().items()}
    method(make_batch())["loss"].backward()
    assert all(torch.equal(tensor, before[name]) for name, tensor in method.encoder.state_dict().items())
    assert not any(p.requires_grad for p in method.encoder.parameters())
    learns = {name for name, p in method.decoder.named_parameters() if p.grad is not None}
    assert {int(name.split(".")[1]) for name in learns} == {0, 1, 2}  # the fourth goes up to the image's size


def test_regions_are_nine_places_each_and_lie_apart_in_a_map_of_18():
    maps = torch.arange(324.0).view(1, 1, 18, 18)
    vectors = region_vectors(maps, region_centres())
    assert vectors.shape == (1, 13, 9)
    assert vectors.unique().numel() == 13 * 9
    assert vectors[0, 0].tolist() == [38, 39, 40, 56, 57, 58, 74, 75, 76]  # around row 3, column 3


def test_the_corner_has_its_nearest_as_neighbours():
    near = make().near
    assert near.sum(dim=1).unique().tolist() == [5]
    assert not near.diagonal().any()
    centres = region_centres().float()
    assert (centres[near[0]] - centres[0]).norm(dim=1).max() < 4


def test_a_flat_map_gives_the_collapse_constant(make_batch):
    method = make()
    torch.nn.init.zeros_(method.head[-1].weight)
    torch.nn.init.ones_(method.head[-1].bias)
    output = method(make_batch())
    assert output["loss"].item() == pytest.approx(math.log(11), rel=1e-5)
    assert output["spread"].item() == pytest.approx(0, abs=1e-3)


def test_refuses_a_decoder_that_stops_at_no_level():
    with pytest.raises(TypeError, match="must be a UNetDecoder, which stops at a level, got Identity"):
        GCLLocal(torch.nn.Identity(), torch.nn.Identity(), torch.nn.Identity())


def test_refuses_what_makes_no_regions(make_batch):
    with pytest.raises(ValueError, match="num_neighbours must be 1 to 12, got 13; the paper has 5"):
        make(num_neighbours=13)
    with pytest.raises(ValueError, match="finest must be a level of the decoder, 0 to 3, got 4"):
        make(finest=4)
    with pytest.raises(ValueError, match=r"must fit three times into a map, got \(8, 8\)"):
        make(finest=2)(make_batch())
