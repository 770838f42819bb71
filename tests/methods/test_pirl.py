import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from medssl.methods import PIRL
from medssl.networks import UNetEncoder, linear_head


def make_pirl(**changes):
    torch.manual_seed(0)
    heads = linear_head(32, 8), linear_head(32, 8), linear_head(72, 8)
    options = {"bank_size": 9, "embed_dim": 8, "num_negatives": 5} | changes
    return PIRL(UNetEncoder(width=2, centre_norm=True), *heads, **options)


@pytest.mark.usefixtures("double")
def test_steps_equal_the_algorithm_of_the_paper(make_batch):
    """Two optimiser steps, slice by slice; the draws of negatives and of the tiles' order are repeated."""
    method = make_pirl()
    encoder, head, tile_head, joint_head = online = copy.deepcopy(
        nn.ModuleList([method.encoder, method.head, method.tile_head, method.joint_head])
    )
    bank = method.bank.vectors.clone()
    ours = torch.optim.SGD(method.parameters(), lr=0.01, momentum=0.9)
    theirs = torch.optim.SGD(online.parameters(), lr=0.01, momentum=0.9)
    for step in range(2):
        batch = make_batch()
        batch["view_1"] = batch["view_1"] + step
        sample = batch["sample"]
        v = head(encoder(batch["view_1"])[-1].mean(dim=(2, 3)))
        pieces = tile_head(encoder(batch["tiles"].flatten(0, 1))[-1].mean(dim=(2, 3))).view(4, 9, 8)
        torch.manual_seed(step)
        order = torch.rand(4, 9).argsort(dim=1)
        others = [i for i in range(9) if i not in sample.tolist()]
        drawn = torch.multinomial(torch.tensor([float(i in others) for i in range(9)]), 5, replacement=True)
        expected = 0.0
        for i in range(4):
            joint = joint_head(torch.cat([pieces[i, tile] for tile in order[i]]))
            for z in (F.normalize(joint, dim=0), F.normalize(v[i], dim=0)):
                own = torch.exp(z @ bank[sample[i]] / 0.07)
                expected = (
                    expected - 0.5 * torch.log(own / (own + sum(torch.exp(z @ bank[u] / 0.07) for u in drawn))) / 4
                )
        torch.manual_seed(step)
        loss = method(batch)["loss"]
        torch.testing.assert_close(loss, expected, rtol=1e-7, atol=1e-7)
        for optimizer, value in ((ours, loss), (theirs, expected)):
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
        for i in range(4):
            bank[sample[i]] = F.normalize(0.5 * bank[sample[i]] + 0.5 * F.normalize(v[i].detach(), dim=0), dim=0)
    for part, name in zip(online, ("encoder", "head", "tile_head", "joint_head"), strict=True):
        for p, reference in zip(getattr(method, name).parameters(), part.parameters(), strict=True):
            torch.testing.assert_close(p, reference, rtol=1e-7, atol=1e-7)
    torch.testing.assert_close(method.bank.vectors, bank, rtol=1e-7, atol=1e-7)


def test_refuses_what_makes_no_loss(make_batch):
    with pytest.raises(ValueError, match=r"tiles_weight must lie in \[0, 1\], got 2; the paper takes 0.5"):
        make_pirl(tiles_weight=2)
    with pytest.raises(ValueError, match="num_negatives must be at least 1, got 0; lower num_slices"):
        make_pirl(num_negatives=0)
    with pytest.raises(ValueError, match=r"nine of a 3 x 3 grid, .*, got \(4, 4, 1, 16, 16\)"):
        make_pirl()(make_batch() | {"tiles": torch.zeros(4, 4, 1, 16, 16)})
    with pytest.raises(ValueError, match="got 4 and a batch of 4; lower num_slices"):
        make_pirl(bank_size=4)(make_batch())
