import pytest
import torch

from medssl.methods import GCLGlobal
from medssl.networks import UNetEncoder, mlp_head


@pytest.mark.usefixtures("double")
def test_two_steps_equal_those_by_hand(make_batch, assert_two_steps_equal):
    data = make_batch()
    torch.manual_seed(0)
    gcl = GCLGlobal(UNetEncoder(width=2, centre_norm=True), mlp_head(32, 8, norm=True))
    part = [0, 1, 0, 1] * 2  # slices 0 and 2 of 9, 1 and 3 of 10: a part has two

    def loss_by_hand(method):
        views = [method.encoder(data[view])[-1] for view in ("view_1", "view_2")]
        z = torch.cat([torch.nn.functional.normalize(method.head(x.mean(dim=(2, 3))), dim=1) for x in views])
        total = 0.0
        for i in range(8):
            similar = [torch.exp(z[i] @ z[a] / 0.1) for a in range(8)]
            others = sum(similar[a] for a in range(8) if part[a] != part[i])
            alike = [a for a in range(8) if a != i and part[a] == part[i]]
            total = total - sum(torch.log(similar[a] / (similar[a] + others)) for a in alike) / len(alike)
        return total / 8

    assert_two_steps_equal(gcl, data, loss_by_hand)


def test_refuses_a_single_part():
    with pytest.raises(ValueError, match="num_partitions must be at least 2, got 1; the paper takes 4"):
        GCLGlobal(torch.nn.Identity(), torch.nn.Identity(), num_partitions=1)
