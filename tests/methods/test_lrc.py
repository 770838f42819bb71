import pytest
import torch
import torch.nn.functional as F

from medssl.losses import LocalRegionContrastLoss
from medssl.methods import LRC
from medssl.methods.lrc import watch
from medssl.networks import UNet


def make(**changes):
    torch.manual_seed(0)
    network = UNet(4, width=4, centre_norm=True)
    return LRC(network.encoder, network.decoder, LocalRegionContrastLoss(**changes))


@pytest.fixture
def batch(make_batch):
    return make_batch()


@pytest.mark.usefixtures("double")
def test_two_steps_equal_those_of_the_formula(batch, assert_two_steps_equal):
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

    assert_two_steps_equal(make(num_samples=None), batch, by_hand)


def test_equal_views_are_found_again_and_unequal_ones_are_not(batch):
    same = {**batch, "view_2": batch["view_1"], "regions_2": batch["regions_1"]}
    method = make(num_samples=None)
    assert method(same)["retrieval"] == 1
    shifted = {**same, "regions_2": (batch["regions_1"] + 1) % 4}
    assert method(shifted)["retrieval"] < 0.5


def test_only_regions_of_both_views_count(batch):
    method = make(num_samples=None)
    lost = {**batch, "regions_2": batch["regions_2"].clamp(max=2)}
    assert method(lost)["regions"] == 3
    gone = {**batch, "regions_1": torch.where(batch["regions_1"] == 3, -1, batch["regions_1"])}
    assert method(gone)["regions"] == 3


def test_retrieval_tells_close_regions_apart_in_half_precision():
    torch.manual_seed(0)
    means = 10 + torch.randn(1, 64, 16)  # the cosines of all pairs are near 1
    with torch.autocast("cpu", torch.bfloat16):
        assert watch(means, means, torch.ones(1, 64, dtype=torch.bool))["retrieval"] == 1


def test_a_network_that_tells_no_region_from_another_is_seen_to_have_collapsed(batch):
    method = make()
    lost = {**batch, "regions_2": batch["regions_2"].clamp(max=2)}
    assert method(lost)["spread"] > 0.1
    last = method.decoder.levels[-1]
    torch.nn.init.zeros_(last[-1].conv.weight)  # what is left is the bias of its normalisation
    torch.nn.init.ones_(last[-1].adn.N.bias)
    output = method(lost)
    assert output["to_collapse"].item() == pytest.approx(1, abs=1e-5)
    assert output["spread"].item() == pytest.approx(0, abs=1e-3)
    assert output["rank"].item() == pytest.approx(1, abs=1e-3)


def test_regions_that_differ_between_images_alone_have_collapsed():
    images = torch.randn(6, 1, 8).expand(-1, 5, -1)  # one vector for all regions of an image
    seen = watch(images, images, torch.ones(6, 5, dtype=torch.bool))
    assert seen["spread"].item() == pytest.approx(0, abs=1e-3)
    assert seen["rank"].item() == pytest.approx(1, abs=1e-3)


def test_a_batch_without_regions_has_no_loss_and_nothing_to_find(batch):
    nowhere = torch.full_like(batch["regions_1"], -1)
    output = make()({**batch, "regions_1": nowhere, "regions_2": nowhere, "num_regions": 0})
    assert output["loss"] == 0
    assert output["to_collapse"] == 0
    assert output["retrieval"] == 0
