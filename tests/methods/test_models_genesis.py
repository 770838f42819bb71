import pytest
import torch

from medssl.methods import ModelsGenesis
from medssl.networks import UNet


@pytest.mark.usefixtures("double")
def test_two_steps_equal_those_by_hand(make_batch, assert_two_steps_equal):
    data = make_batch()
    torch.manual_seed(0)
    network = UNet(4, width=2, centre_norm=True)
    method = ModelsGenesis(network.encoder, network.decoder, torch.nn.Conv2d(2, 1, 1))

    def loss_by_hand(method):
        logits = method.head(method.decoder(method.encoder(data["view_1"])))
        restored = 1 / (1 + torch.exp(-logits))
        return (restored - data["target"]).pow(2).sum() / data["target"].numel()

    assert_two_steps_equal(method, data, loss_by_hand)
