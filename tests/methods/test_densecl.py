import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from medssl.methods import DenseCL
from medssl.networks import Pointwise, UNetEncoder, linear_head


def make_densecl(**changes):
    torch.manual_seed(0)
    heads = linear_head(32, 8, norm=True), Pointwise(linear_head(32, 8, norm=True))
    options = {"queue_size": 6, "embed_dim": 8, "momentum": 0.9} | changes
    return DenseCL(UNetEncoder(width=2, centre_norm=True), *heads, **options)


def nce(q, k, queue):
    similar = torch.exp(torch.stack([q @ k, *(q @ u for u in queue)]) / 0.2)
    return -torch.log(similar[0] / similar.sum())


@pytest.mark.usefixtures("double")
def test_steps_equal_the_algorithm_of_the_paper(make_batch):
    """Two optimiser steps, place by place: matches are found in the encoder, one dense key a slice is remembered."""
    method = make_densecl()
    online = copy.deepcopy(nn.ModuleList([method.encoder, method.head, method.dense_head]))
    twin = copy.deepcopy(online)
    queues = [list(queue.keys.clone()) for queue in (method.queue, method.dense_queue)]
    ours = torch.optim.SGD([p for p in method.parameters() if p.requires_grad], lr=0.1, momentum=0.9)
    theirs = torch.optim.SGD(online.parameters(), lr=0.1, momentum=0.9)

    def embed(networks, view):
        last = networks[0](view)[-1]
        dense = networks[2](last).flatten(2)
        pooled = F.normalize(dense.mean(dim=2), dim=1)
        return (
            F.normalize(networks[1](last.mean(dim=(2, 3))), dim=1),
            F.normalize(dense, dim=1),
            last.flatten(2),
            pooled,
        )

    for step in range(2):
        batch = make_batch()
        batch["view_1"] = batch["view_1"] + step
        with torch.no_grad():
            for p_twin, p_online in zip(twin.parameters(), online.parameters(), strict=True):
                p_twin.copy_(0.9 * p_twin + 0.1 * p_online)
            key, dense_key, key_seen, pooled = embed(twin, batch["view_2"])
        query, dense_query, seen, _ = embed(online, batch["view_1"])
        slices = sum(nce(query[i], key[i], queues[0]) for i in range(4)) / 4
        places, total = 0.0, 0
        for i in range(4):
            for s in range(seen.shape[2]):
                alike = [F.cosine_similarity(seen[i, :, s], key_seen[i, :, t], dim=0).item() for t in range(4)]
                best = max(range(4), key=lambda t: alike[t])
                places, total = places + nce(dense_query[i, :, s], dense_key[i, :, best], queues[1]), total + 1
        expected = (slices + places / total) / 2
        loss = method(batch)["loss"]
        torch.testing.assert_close(loss, expected, rtol=1e-7, atol=1e-7)
        for optimizer, value in ((ours, loss), (theirs, expected)):
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
        queues = [[*queue, *keys][len(keys) :] for queue, keys in zip(queues, (key, pooled), strict=True)]
    for part, name in zip(online, ("encoder", "head", "dense_head"), strict=True):
        for p, reference in zip(getattr(method, name).parameters(), part.parameters(), strict=True):
            torch.testing.assert_close(p, reference, rtol=1e-7, atol=1e-7)
    for ours_queue, queue in zip((method.queue, method.dense_queue), queues, strict=True):
        newest = torch.roll(ours_queue.keys, -int(ours_queue.place), dims=0)
        torch.testing.assert_close(newest, torch.stack(queue), rtol=1e-7, atol=1e-7)


def test_keys_of_a_split_batch_are_normalised_in_other_company_and_come_back(make_batch):
    method, batch, seen = make_densecl(num_splits=2), make_batch(), []
    method.key_encoder.twin.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    torch.manual_seed(1)  # an order that mixes the parts
    method(batch)
    assert [len(part) for part in seen] == [2, 2]
    company = {tuple(image.flatten().tolist()) for image in seen[0]}
    assert company not in [{tuple(image.flatten().tolist()) for image in part} for part in batch["view_2"].split(2)]
    method.eval()  # where company is of no account
    expected = make_densecl().eval()
    expected.load_state_dict(method.state_dict())
    for seed in range(3):  # orders of the keys
        torch.manual_seed(seed)
        torch.testing.assert_close(method(batch)["loss"], expected(batch)["loss"])


def test_refuses_weights_parts_and_queues_that_make_no_sense(make_batch):
    with pytest.raises(ValueError, match=r"dense_weight must lie in \[0, 1\], got 2; the paper takes 0.5"):
        make_densecl(dense_weight=2)
    with pytest.raises(ValueError, match="num_splits must be at least 1, got 0"):
        make_densecl(num_splits=0)
    with pytest.raises(ValueError, match=r"a queue of 6 keys of 6 slices"):
        make_densecl(pool_size=6)
    with pytest.raises(ValueError, match=r"3 parts of a batch needs two images, got a batch of 4"):
        make_densecl(num_splits=3)(make_batch())
