import pytest
import torch
import torch.nn.functional as F

from medssl.methods import SimSiam
from medssl.networks import UNetEncoder, simsiam_head, simsiam_predictor


def make_simsiam():
    torch.manual_seed(0)
    return SimSiam(UNetEncoder(width=2, centre_norm=True), simsiam_head(32, 8), simsiam_predictor(8))


@pytest.mark.usefixtures("double")
def test_two_steps_equal_those_by_hand(make_batch, assert_two_steps_equal):
    data = make_batch()

    def loss_by_hand(method):
        z = [method.head(method.encoder(data[view])[-1].mean(dim=(2, 3))) for view in ("view_1", "view_2")]
        p = [method.predictor(x) for x in z]
        pairs = [(p[0][i], z[1][i].detach()) for i in range(4)] + [(p[1][i], z[0][i].detach()) for i in range(4)]
        return -sum(F.normalize(a, dim=0) @ F.normalize(b, dim=0) for a, b in pairs) / 8

    assert_two_steps_equal(make_simsiam(), data, loss_by_hand)


def test_the_head_is_that_of_the_paper():
    head, predictor = simsiam_head(2048), simsiam_predictor(2048)
    assert [layer.out_features for layer in head if hasattr(layer, "out_features")] == [2048] * 3
    assert not head[-1].affine
    assert [layer.out_features for layer in predictor if hasattr(layer, "out_features")] == [512, 2048]


def test_an_encoder_that_has_collapsed_shows_no_spread(make_batch):
    method = make_simsiam()
    for weight in method.encoder.levels[0].parameters():
        torch.nn.init.zeros_(weight)
    assert method(make_batch())["spread"].item() < 0.1
