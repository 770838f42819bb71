import pytest
import torch

from medssl.networks import LinearProbe, UNet, UNetEncoder


@pytest.mark.parametrize(("width", "classes", "parameters"), [(48, 4, 17_462_016), (32, 8, 7_763_584)])
def test_has_as_many_parameters_as_the_pcl_reference(width, classes, parameters):
    assert sum(p.numel() for p in UNet(classes, width=width).parameters()) == parameters


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_features_come_finest_first_and_logits_at_full_size(spatial_dims):
    network = UNet(3, width=2, spatial_dims=spatial_dims).eval()
    image = torch.randn(1, 1, *[32] * spatial_dims)
    features = network.encoder(image)
    assert [f.shape[1] for f in features] == network.encoder.out_channels == [2, 4, 8, 16, 32]
    assert [f.shape[-1] for f in features] == [32, 16, 8, 4, 2]
    assert network(image).shape == (1, 3, *image.shape[2:])


def test_the_fourth_level_of_the_paper_is_an_eighth_of_the_image():
    feature = UNetEncoder(width=2)(torch.randn(1, 1, 352, 352))[3]
    assert feature.shape == (1, 16, 44, 44)


def test_the_centre_is_normalised_only_on_request():
    plain, normed = UNetEncoder(width=2), UNetEncoder(width=2, centre_norm=True)
    assert not any("adn.N" in name for name, _ in plain.centre.named_parameters())
    assert any("adn.N" in name for name, _ in normed.centre.named_parameters())


def test_dropout_reaches_encoder_and_decoder():
    network = UNet(2, width=2, dropout=0.5)
    for part in (network.encoder, network.decoder):
        assert any(isinstance(module, torch.nn.Dropout) for module in part.modules())


def test_refuses_a_size_it_cannot_halve_four_times():
    with pytest.raises(ValueError, match="multiple of 16, got 40; pad or crop"):
        UNet(2, width=2)(torch.randn(1, 1, 40, 48))


def test_scripts_to_the_same_logits():
    network = UNet(2, width=2).eval()
    image = torch.randn(1, 1, 32, 32)
    torch.testing.assert_close(torch.jit.script(network)(image), network(image))


def test_the_linear_probe_learns_its_head_and_nothing_else():
    probe = LinearProbe(UNetEncoder(width=2), out_channels=3)
    logits = probe(torch.randn(2, 1, 32, 32))
    assert logits.shape == (2, 3, 32, 32)
    logits.sum().backward()
    trained = [name for name, p in probe.named_parameters() if p.requires_grad]
    assert trained == ["head.weight", "head.bias"]
    assert all(p.grad is None for p in probe.encoder.parameters())
