import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from medssl.losses import InfoNCELoss
from medssl.methods import MoCo
from medssl.networks import UNet, linear_head


@pytest.fixture
def moco():
    def make(**changes):
        torch.manual_seed(0)
        encoder = UNet(4, width=2, centre_norm=True).encoder
        return MoCo(
            encoder, linear_head(32, 8, norm=True), **{"queue_size": 6, "embed_dim": 8, "momentum": 0.9} | changes
        )

    return make


@pytest.mark.usefixtures("double")
def test_steps_equal_the_algorithm_of_the_paper(moco, make_batch):
    """Two optimiser steps against the paper's pseudo code, written for single keys."""
    method, tau = moco(), 0.07
    f_q, f_k = ([copy.deepcopy(method.encoder), copy.deepcopy(method.head)] for _ in range(2))
    queue = list(method.queue.keys.clone())
    ours = torch.optim.SGD([p for p in method.parameters() if p.requires_grad], lr=0.1, momentum=0.9)
    theirs = torch.optim.SGD([p for part in f_q for p in part.parameters()], lr=0.1, momentum=0.9)
    for step in range(2):
        batch = make_batch()
        batch["view_1"] = batch["view_1"] + step
        q = F.normalize(f_q[1](f_q[0](batch["view_1"])[-1].mean(dim=(2, 3))), dim=1)
        with torch.no_grad():
            for part_k, part_q in zip(f_k, f_q, strict=True):
                for p_k, p_q in zip(part_k.parameters(), part_q.parameters(), strict=True):
                    p_k.copy_(0.9 * p_k + 0.1 * p_q)
            k = F.normalize(f_k[1](f_k[0](batch["view_2"])[-1].mean(dim=(2, 3))), dim=1)
        losses = []
        for i in range(len(q)):
            similar = torch.exp(torch.stack([q[i] @ k[i], *(q[i] @ u for u in queue)]) / tau)
            losses.append(-torch.log(similar[0] / similar.sum()))
        expected = torch.stack(losses).mean()
        loss = method(batch)["loss"]
        torch.testing.assert_close(loss, expected, rtol=1e-7, atol=1e-7)
        for optimizer, value in ((ours, loss), (theirs, expected)):
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
        queue = [*queue, *k][len(k) :]
    for part, name in zip(f_q, ("encoder", "head"), strict=True):
        for p, reference in zip(getattr(method, name).parameters(), part.parameters(), strict=True):
            torch.testing.assert_close(p, reference, rtol=1e-7, atol=1e-7)
    newest = torch.roll(method.queue.keys, -int(method.queue.place), dims=0)
    torch.testing.assert_close(newest, torch.stack(queue), rtol=1e-7, atol=1e-7)


def test_queries_and_keys_of_a_split_batch_are_normalised_in_other_company(moco, make_batch):
    method, seen = moco(num_splits=2), []
    for name, encoder in (("query", method.encoder), ("key", method.key_encoder.twin)):
        encoder.register_forward_pre_hook(lambda _, inputs, name=name: seen.append((name, inputs[0])))
    batch = make_batch()
    torch.manual_seed(1)  # an order that mixes the parts
    method(batch)
    queries, keys = ([images for name, images in seen if name == which] for which in ("query", "key"))
    assert [len(part) for part in queries] == [len(part) for part in keys] == [2, 2]
    assert torch.equal(torch.cat(queries), batch["view_1"])
    company = [{tuple(image.flatten().tolist()) for image in part} for part in keys]
    assert company[0] not in [{tuple(image.flatten().tolist()) for image in part} for part in batch["view_2"].split(2)]
    torch.testing.assert_close(torch.cat(keys).sum(dim=0), batch["view_2"].sum(dim=0))


def test_a_shuffled_key_comes_back_to_its_query(moco, make_batch):
    method, batch = moco().eval(), make_batch()
    query, key = (
        part(encoder(batch[view])[-1].mean(dim=(2, 3)))
        for part, encoder, view in (
            (method.head, method.encoder, "view_1"),
            (method.key_head.twin, method.key_encoder.twin, "view_2"),
        )
    )
    expected = InfoNCELoss(0.07)(query, key, method.queue.keys)
    for seed in range(3):  # orders of the keys
        torch.manual_seed(seed)
        torch.testing.assert_close(method(batch)["loss"], expected)


def test_refuses_parts_without_two_images_and_a_queue_of_all_slices(moco, make_batch):
    with pytest.raises(ValueError, match=r"3 parts of a batch needs two images, got a batch of 4; lower num_splits"):
        moco(num_splits=3)(make_batch())
    with pytest.raises(ValueError, match=r"a queue of 6 keys of 6 slices .* give a queue_size below 6"):
        moco(pool_size=6)
    with pytest.raises(ValueError, match="num_splits must be at least 1, got 0"):
        MoCo(nn.Identity(), nn.Identity(), num_splits=0)
