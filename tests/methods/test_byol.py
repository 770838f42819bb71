import copy

import pytest
import torch
import torch.nn.functional as F

from medssl.methods import BYOL
from medssl.networks import UNetEncoder, byol_head


def make_byol(**options):
    torch.manual_seed(0)
    encoder = UNetEncoder(width=2, centre_norm=True)
    return BYOL(encoder, byol_head(32, 8, 16), byol_head(8, 8, 16), **{"momentum": 0.9} | options)


@pytest.mark.usefixtures("double")
def test_steps_equal_the_algorithm_of_the_paper(make_batch):
    """Two optimiser steps, vector by vector; the twin has moved before each."""
    method = make_byol()
    online = copy.deepcopy(torch.nn.ModuleList([method.encoder, method.head, method.predictor]))
    twin = copy.deepcopy(online[:2])
    ours = torch.optim.SGD([p for p in method.parameters() if p.requires_grad], lr=0.1, momentum=0.9)
    theirs = torch.optim.SGD(online.parameters(), lr=0.1, momentum=0.9)
    for step in range(2):
        batch = make_batch()
        views = [batch["view_1"] + step, batch["view_2"]]
        with torch.no_grad():
            for p_twin, p_online in zip(twin.parameters(), online[:2].parameters(), strict=True):
                p_twin.copy_(0.9 * p_twin + 0.1 * p_online)
            target = [twin[1](twin[0](view)[-1].mean(dim=(2, 3))) for view in views]
        predicted = [online[2](online[1](online[0](view)[-1].mean(dim=(2, 3)))) for view in views]
        expected = 0.0
        for p, t in ((predicted[0], target[1]), (predicted[1], target[0])):
            for i in range(4):
                expected = expected + (F.normalize(p[i], dim=0) - F.normalize(t[i], dim=0)).square().sum() / 4
        loss = method(batch | {"view_1": views[0]})["loss"]
        torch.testing.assert_close(loss, expected, rtol=1e-7, atol=1e-7)
        for optimizer, value in ((ours, loss), (theirs, expected)):
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
    for part, name in zip(online, ("encoder", "head", "predictor"), strict=True):
        for p, reference in zip(getattr(method, name).parameters(), part.parameters(), strict=True):
            torch.testing.assert_close(p, reference, rtol=1e-7, atol=1e-7)


def test_the_momentum_rises_to_one_by_half_a_cosine_and_goes_on_after_a_resume(make_batch):
    method, seen = make_byol(momentum=0.5, total_steps=4), []
    follow = method.twin_head.follow
    method.twin_head.follow = lambda module, momentum: (seen.append(momentum), follow(module, momentum))
    for _ in range(2):
        method(make_batch())
    again = make_byol(momentum=0.5, total_steps=4)
    again.load_state_dict(method.state_dict())
    again.twin_head.follow = method.twin_head.follow
    for _ in range(4):
        again(make_batch())
    assert seen == pytest.approx([0.5, 0.5732, 0.75, 0.9268, 1.0, 1.0], abs=1e-4)


def test_refuses_a_run_of_no_steps():
    with pytest.raises(ValueError, match="total_steps must be at least 1, or None to keep the momentum, got 0"):
        make_byol(total_steps=0)
