import math

import pytest
import torch
import torch.nn.functional as F

from medssl.losses import LocalRegionContrastLoss
from medssl.methods import LRC
from medssl.networks import UNet


def make(**changes):
    torch.manual_seed(0)
    network = UNet(4, width=4, centre_norm=True)
    return LRC(network.encoder, network.decoder, LocalRegionContrastLoss(**changes))


@pytest.fixture
def batch(make_batch):
    return make_batch()


def test_one_step_equals_the_formula_of_the_paper(batch, assert_one_step_equal):
    def by_hand(method):
        q, p = (method.decoder(method.encoder(batch[view])) for view in ("view_1", "view_2"))
        total = 0.0
        for image in range(4):
            means = [
                torch.stack([x[image][:, regions[image, 0] == k].mean(dim=1) for k in range(4)])
                for x, regions in ((q, batch["regions_1"]), (p, batch["regions_2"]))
            ]
            f_q, f_p = (F.normalize(mean, dim=1) for mean in means)
            for k1 in range(4):
                terms = [torch.exp(f_q[k1] @ f[k2] / 0.1) for f in (f_q, f_p) for k2 in range(4)]
                total = total - torch.log(torch.exp(f_q[k1] @ f_p[k1] / 0.1) / sum(terms))
        return total / 4

    assert_one_step_equal(make(num_samples=None), batch, by_hand)


def test_equal_views_are_found_again_and_unequal_ones_are_not(batch):
    same = {**batch, "view_2": batch["view_1"], "regions_2": batch["regions_1"]}
    method = make(num_samples=None)
    assert method(same)["retrieval"] == 1
    shifted = {**same, "regions_2": (batch["regions_1"] + 1) % 4}
    assert method(shifted)["retrieval"] < 0.5


def test_only_regions_of_both_views_count(batch):
    method = make(num_samples=None)
    lost = {**batch, "regions_2": batch["regions_2"].clamp(max=2)}
    output = method(lost)
    assert output["regions"] == 3
    assert 0 <= output["retrieval"] <= 1
    assert output["loss"] < method(batch)["loss"] + 4 * math.log(8)


def test_it_learns_to_tell_regions_apart(batch):
    method = make()
    optimizer = torch.optim.Adam(method.parameters(), lr=0.01)
    first = method(batch)["loss"].item()
    for _ in range(15):
        optimizer.zero_grad()
        loss = method(batch)["loss"]
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.9 * first
