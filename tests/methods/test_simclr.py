import pytest
import torch

from medssl.methods import SimCLR
from medssl.networks import UNetEncoder, mlp_head


def make_simclr():
    torch.manual_seed(0)
    return SimCLR(UNetEncoder(width=2, centre_norm=True), mlp_head(32, 8, norm=True))


def test_one_slice_alone_is_refused(make_batch):
    alone = {key: make_batch()[key][:1] for key in ("view_1", "view_2")}
    with pytest.raises(ValueError, match="a batch must have 2 slices at least, got 1; raise num_slices"):
        make_simclr()(alone)


@pytest.mark.usefixtures("double")
def test_two_steps_equal_those_by_hand(make_batch, assert_two_steps_equal):
    data = make_batch()

    def loss_by_hand(method):
        views = [method.encoder(data[view])[-1] for view in ("view_1", "view_2")]
        z = torch.cat([torch.nn.functional.normalize(method.head(x.mean(dim=(2, 3))), dim=1) for x in views])
        total = 0.0
        for i in range(8):
            similar = {a: torch.exp(z[i] @ z[a] / 0.1) for a in range(8) if a != i}
            total = total - torch.log(similar[(i + 4) % 8] / sum(similar.values()))
        return total / 8

    assert_two_steps_equal(make_simclr(), data, loss_by_hand)
