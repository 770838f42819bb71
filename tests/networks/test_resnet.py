import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from medssl.networks import ResNetEncoder, ResNetUNet


def test_has_the_work_of_the_standard_resnet_50():
    """8.02 GFLOP at 224 x 224 for one channel; with a stride of 1 in the stem it would be four times that."""
    encoder = ResNetEncoder().eval().to("meta")
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        encoder(torch.empty(1, 1, 224, 224, device="meta"))
    assert counter.get_total_flops() / 1e9 == pytest.approx(8.02, abs=0.01)


def test_features_come_finest_first_at_strides_of_2_to_32():
    encoder = ResNetEncoder().eval().to("meta")
    features = encoder(torch.empty(2, 1, 64, 96, device="meta"))
    assert [f.shape[1] for f in features] == encoder.out_channels
    assert [tuple(f.shape[2:]) for f in features] == [(32, 48), (16, 24), (8, 12), (4, 6), (2, 3)]


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_logits_have_the_size_of_the_image(spatial_dims):
    network = ResNetUNet(5, spatial_dims=spatial_dims).to("meta")
    image = torch.empty(2, 1, *[64] * spatial_dims, device="meta")
    assert network(image).shape == (2, 5, *image.shape[2:])


def test_without_a_head_the_decoders_64_channels_come_out():
    network = ResNetUNet(None).to("meta")
    assert network(torch.empty(2, 1, 64, 64, device="meta")).shape == (2, 64, 64, 64)
    assert {name.split(".")[0] for name in network.state_dict()} == {"encoder", "decoder"}


def test_refuses_a_size_it_cannot_halve_five_times():
    with pytest.raises(ValueError, match="multiple of 32, got 48; pad or crop"):
        ResNetEncoder().to("meta")(torch.empty(1, 1, 48, 64, device="meta"))
