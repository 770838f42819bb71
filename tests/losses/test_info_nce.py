import math

import pytest
import torch
import torch.nn.functional as F
from torch._subclasses.fake_tensor import FakeTensorMode

from medssl.losses import InfoNCELoss


def by_loops(query, key, negatives, tau):
    total = 0.0
    for q, k in zip(query, key, strict=True):
        positive = math.exp(F.cosine_similarity(q, k, dim=0) / tau)
        others = sum(math.exp(F.cosine_similarity(q, u, dim=0) / tau) for u in negatives)
        total -= math.log(positive / (positive + others))
    return total / len(query)


def test_equals_the_sum_of_the_paper():
    query, key, negatives = torch.randn(3, 5), torch.randn(3, 5), torch.randn(7, 5)
    assert InfoNCELoss(0.2)(query, key, negatives).item() == pytest.approx(
        by_loops(query, key, negatives, 0.2), rel=1e-5
    )


def test_the_length_of_the_vectors_does_not_matter():
    query, key, negatives = torch.randn(3, 5), torch.randn(3, 5), torch.randn(7, 5)
    loss = InfoNCELoss()
    torch.testing.assert_close(loss(query * 9, key * 0.1, negatives * 5), loss(query, key, negatives))


def test_equal_vectors_sit_at_the_constant_of_collapse():
    assert InfoNCELoss()(torch.ones(4, 8), torch.ones(4, 8), torch.ones(15, 8)).item() == pytest.approx(math.log(16))


def test_half_precision_gives_the_loss_in_full_precision():
    query, key, negatives = (torch.randn(n, 8).bfloat16() for n in (4, 4, 9))
    expected = InfoNCELoss()(query.float(), key.float(), negatives.float())
    with torch.autocast("cpu", torch.bfloat16):
        loss = InfoNCELoss()(query.requires_grad_(), key, negatives)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, expected)


def test_never_waits_for_the_device():
    with FakeTensorMode():
        query = torch.randn(4, 8, requires_grad=True)
        InfoNCELoss()(query, torch.randn(4, 8), torch.randn(9, 8)).backward()


def test_refuses_vectors_that_do_not_fit():
    with pytest.raises(ValueError, match=r"got \(4, 8\), \(3, 8\) and \(9, 8\)"):
        InfoNCELoss()(torch.randn(4, 8), torch.randn(3, 8), torch.randn(9, 8))
    with pytest.raises(ValueError, match="temperature must be positive, got 0"):
        InfoNCELoss(0)
