import math

import pytest
import torch

from medssl.methods import PCL
from medssl.networks import UNetEncoder, mlp_head


def make_pcl(**kwargs):
    torch.manual_seed(0)
    return PCL(UNetEncoder(width=2, centre_norm=True), mlp_head(32, 8, norm=True), **kwargs)


@pytest.mark.usefixtures("double")
def test_two_steps_equal_those_by_hand(make_batch, positional_by_hand, assert_two_steps_equal):
    data = make_batch()

    def loss_by_hand(method):
        last = [method.encoder(data[view])[-1] for view in ("view_1", "view_2")]
        z = torch.cat([method.head(x.mean(dim=(2, 3))) for x in last])
        return positional_by_hand(z, data["index"].repeat(2).tolist(), data["depth"].repeat(2).tolist())

    assert_two_steps_equal(make_pcl(), data, loss_by_hand)


def test_the_factor_of_the_reference_code_scales_the_loss(make_batch):
    data = make_batch()
    ratio = make_pcl(base_temperature=0.07)(data)["loss"] / make_pcl()(data)["loss"]
    assert ratio.item() == pytest.approx(0.1 / 0.07, rel=1e-5)


def test_noise_without_a_normalised_centre_sits_at_the_collapse_constant(make_batch):
    """Why the centre is normalised at small widths: methods collapse before the first step."""
    torch.manual_seed(0)
    output = PCL(UNetEncoder(width=4), mlp_head(64, 8))(make_batch(side=64))
    assert output["loss"].item() == pytest.approx(math.log(7), rel=0.02)
    assert output["spread"].item() < 0.15
