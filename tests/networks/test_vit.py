import pytest
import torch

from medssl.networks import ViTEncoder, ViTUNet
from medssl.networks.vit import positions

SMALL = {"hidden_size": 16, "mlp_dim": 32, "num_layers": 4}


def test_the_default_is_vit_b_16():
    encoder = ViTEncoder(in_channels=3).to("meta")
    # timm's vit_base_patch16_224 without its classifier has 85,798,656, of which 197 x 768 are learnt positions.
    assert sum(p.numel() for p in encoder.parameters()) == 85_798_656 - 197 * 768


def test_linear_maps_start_by_xavier_and_without_a_bias():
    encoder = ViTEncoder(hidden_size=64, mlp_dim=128, num_layers=4)
    for module in encoder.modules():
        if isinstance(module, torch.nn.Linear | torch.nn.Conv2d):
            rows, columns = module.weight.flatten(1).shape
            bound = (6 / (rows + columns)) ** 0.5
            assert 0.95 * bound < module.weight.abs().max() <= bound
            assert not module.bias.any()


def test_stages_come_as_maps_after_the_image_itself():
    encoder = ViTEncoder(**SMALL)
    image = torch.randn(2, 1, 48, 32)
    features = encoder(image)
    assert features[0] is image
    assert [tuple(f.shape) for f in features[1:]] == [(2, 16, 3, 2)] * 4
    assert encoder.out_channels == [1, 16, 16, 16, 16]


def test_a_map_shows_what_lies_at_its_place():
    torch.manual_seed(0)
    encoder = ViTEncoder(**SMALL).eval()
    image = torch.zeros(1, 1, 48, 64)
    image[..., 16:32, 48:] = torch.randn(16, 16) * 50
    moved = (encoder(image)[1] - encoder(torch.zeros_like(image))[1]).norm(dim=1)[0]
    assert moved.argmax().item() == 1 * 4 + 3


def test_positions_are_those_of_mae_on_its_own_grid_and_cover_the_same_range_on_others():
    own = positions((14, 14), 8, torch.device("cpu"))
    for row, column in ((0, 0), (3, 11), (13, 13)):
        waves = [torch.tensor([place, place / 100]) for place in (row, column)]
        expected = torch.cat([f(wave) for wave in waves for f in (torch.sin, torch.cos)])
        torch.testing.assert_close(own[row * 14 + column], expected)
    finer = positions((28, 28), 8, torch.device("cpu")).view(28, 28, 8)
    between = torch.sin(torch.tensor(13 * 14 / 28 + 0.25 - 0.5))  # the place of row 13 of 28 among 14
    torch.testing.assert_close(finer[13, 0, 0], between)


@pytest.mark.parametrize("size", [(32, 48), (64, 64)])
def test_logits_have_the_size_of_the_image(size):
    network = ViTUNet(5, ViTEncoder(**SMALL), decoder_width=4)
    assert network(torch.randn(2, 1, *size)).shape == (2, 5, *size)


def test_without_a_head_the_decoders_channels_come_out():
    network = ViTUNet(None, ViTEncoder(**SMALL), decoder_width=4)
    assert network(torch.randn(1, 1, 32, 32)).shape == (1, 4, 32, 32)
    assert {name.split(".")[0] for name in network.state_dict()} == {"encoder", "decoder"}


def test_refuses_sizes_that_do_not_fit():
    with pytest.raises(ValueError, match="multiple of 16, got 40; pad or crop it"):
        ViTEncoder(**SMALL)(torch.zeros(1, 1, 40, 32))
    with pytest.raises(ValueError, match="num_layers and hidden_size must be multiples of 4, got 3 and 16"):
        ViTEncoder(**(SMALL | {"num_layers": 3}))
    with pytest.raises(ValueError, match="from patches of 16 pixels, got 8"):
        ViTUNet(2, ViTEncoder(**SMALL, patch_size=8))
