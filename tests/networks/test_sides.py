import pytest
from torch import nn

from medssl.networks import LinearProbe, ResNetUNet, TwoBranchUNet, UNet, UNetEncoder, ViTEncoder, ViTUNet, check_size


@pytest.mark.parametrize(
    ("network", "multiple"),
    [
        (UNet(3, width=2), 16),
        (ResNetUNet(3), 32),
        (ViTUNet(3, ViTEncoder(hidden_size=16, mlp_dim=8, num_layers=4)), 16),
        (TwoBranchUNet(ResNetUNet(None), UNet(None, width=2), 3), 32),
        (LinearProbe(UNetEncoder(width=2), 3), 16),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_size_is_refused_for_any_of_the_encoders_it_does_not_fit(network, multiple):
    check_size(network, [multiple, 2 * multiple])
    with pytest.raises(ValueError, match=f"multiple of {multiple}, got {multiple + 8}; pad or crop it"):
        check_size(network, [multiple, multiple], [multiple, multiple + 8])


def test_a_slices_size_is_refused_for_volumes():
    with pytest.raises(ValueError, match=r"must have 3 sides for this network, got \[128, 128\]; .* small.yaml goes"):
        check_size(UNet(3, width=2, spatial_dims=3), [128, 128])


def test_a_network_of_ones_own_takes_any_size():
    check_size(nn.Conv2d(1, 1, 3), [7, 5])
