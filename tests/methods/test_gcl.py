import pytest
import torch

from medssl.methods import GCL
from medssl.methods.gcl import partitions
from medssl.networks import UNetEncoder, mlp_head


def by_the_reference(i, depth):
    """One slice's partition, as the PCL reference numbers it, from 0."""
    return min(i // max(1, round(depth / 4)), 3)


@pytest.mark.usefixtures("double")
def test_two_steps_equal_those_by_hand(make_batch, assert_two_steps_equal):
    data = make_batch()
    torch.manual_seed(0)
    gcl = GCL(UNetEncoder(width=2, centre_norm=True), mlp_head(32, 8, norm=True))
    part = [by_the_reference(i, v) for i, v in zip(data["index"].tolist(), data["depth"].tolist(), strict=True)] * 2

    def loss_by_hand(method):
        views = [method.encoder(data[view])[-1] for view in ("view_1", "view_2")]
        z = torch.cat([torch.nn.functional.normalize(method.head(x.mean(dim=(2, 3))), dim=1) for x in views])
        total = 0.0
        for i in range(8):
            similar = {a: torch.exp(z[i] @ z[a] / 0.1) for a in range(8) if a != i}
            alike = [a for a in similar if part[a] == part[i]]
            total = total - sum(torch.log(similar[a] / sum(similar.values())) for a in alike) / len(alike)
        return total / 8

    assert_two_steps_equal(gcl, data, loss_by_hand)


def test_partitions_are_those_of_the_reference_code_for_volumes_of_any_depth():
    for depth in range(1, 40):
        index = torch.arange(depth)
        expected = [by_the_reference(i, depth) for i in range(depth)]
        assert partitions(index, torch.full_like(index, depth), 4).tolist() == expected


def test_refuses_no_partition():
    with pytest.raises(ValueError, match="num_partitions must be at least 1, got 0; the paper takes 4"):
        GCL(torch.nn.Identity(), torch.nn.Identity(), num_partitions=0)
