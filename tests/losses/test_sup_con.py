import math

import pytest
import torch
from monai.losses import ContrastiveLoss
from torch._subclasses.fake_tensor import FakeTensorMode

from benchmarks.counting import count_kernels
from medssl.losses import SupConLoss

# Four vectors of two views; NT-Xent of them as lightly 1.6.0 and MONAI 1.6.1 give it, for the temperatures .1 and .5.
STEPS = torch.arange(20.0).view(4, 5) + 1
WAVES = torch.cat([STEPS.sin(), STEPS.cos()])
NT_XENT = {0.1: 8.1481285, 0.5: 2.3395360}
# The loss of the PCL reference code for the partitions (1, 2, 3, 3), which multiplies by .1 / .07.
PARTITIONS, PARTITION_LOSS = torch.tensor([1, 2, 3, 3]).repeat(2), 11.0924854 * 0.07 / 0.1


def other_view(n):
    """Positives of n samples in two views: each has its twin alone."""
    sample = torch.arange(n).repeat(2)
    return sample[:, None] == sample


def by_loops(embeddings, positives, temperature):
    """Equation 2 of SupCon, over the anchors that have positives."""
    n, terms = len(embeddings), []
    z = [(e / e.norm()).tolist() for e in embeddings.double()]
    e = [
        [math.exp(sum(a * b for a, b in zip(z[i], z[j], strict=True)) / temperature) for j in range(n)]
        for i in range(n)
    ]
    for i in range(n):
        mine = [j for j in range(n) if j != i and positives[i, j]]
        bottom = sum(e[i][q] for q in range(n) if q != i)
        if mine:
            terms.append(-sum(math.log(e[i][j] / bottom) for j in mine) / len(mine))
    return sum(terms) / len(terms)


@pytest.mark.parametrize("temperature", [0.07, 0.1, 1.0])
def test_equals_the_sums_of_the_paper(temperature):
    embeddings, positives = torch.randn(7, 4), torch.rand(7, 7) < 0.3
    positives[2] = False  # no anchor
    positives[3, 3] = True  # ignored
    loss = SupConLoss(temperature)(embeddings, positives)
    assert loss.item() == pytest.approx(by_loops(embeddings, positives, temperature), rel=1e-5)


@pytest.mark.parametrize("temperature", NT_XENT)
def test_with_the_other_view_as_the_only_positive_it_is_nt_xent(temperature):
    loss = SupConLoss(temperature)(WAVES, other_view(4))
    assert loss.item() == pytest.approx(NT_XENT[temperature], rel=1e-6)
    torch.testing.assert_close(loss, ContrastiveLoss(temperature=temperature)(WAVES[:4], WAVES[4:]))


def test_with_partitions_as_positives_it_is_the_partition_loss_of_the_pcl_reference():
    loss = SupConLoss(0.1)(WAVES, PARTITIONS[:, None] == PARTITIONS)
    assert loss.item() == pytest.approx(PARTITION_LOSS, rel=1e-6)


def test_equal_embeddings_give_the_collapse_constant():
    for positives in (other_view(5), torch.rand(10, 10) < 0.5):
        loss = SupConLoss()(torch.randn(1, 8).expand(10, 8), positives)
        assert loss.item() == pytest.approx(math.log(9), rel=1e-6)


def test_without_the_other_positives_below_the_line_it_is_the_sum_over_pairs():
    embeddings, positives = torch.randn(7, 4), torch.rand(7, 7) < 0.4
    positives[2] = False  # no anchor
    z = torch.nn.functional.normalize(embeddings.double(), dim=1)
    terms = []
    for i in range(7):
        mine = [j for j in range(7) if j != i and positives[i, j]]
        others = sum(math.exp(z[i] @ z[a] / 0.1) for a in range(7) if a != i and not positives[i, a])
        pairs = [-math.log(math.exp(z[i] @ z[j] / 0.1) / (math.exp(z[i] @ z[j] / 0.1) + others)) for j in mine]
        terms += [sum(pairs) / len(pairs)] if pairs else []
    loss = SupConLoss(positives_repel=False)(embeddings, positives)
    assert loss.item() == pytest.approx(sum(terms) / len(terms), rel=1e-5)


def test_where_all_are_positives_and_none_repels_loss_and_gradient_are_zero():
    embeddings = torch.randn(4, 3, requires_grad=True)
    loss = SupConLoss(positives_repel=False)(embeddings, torch.ones(4, 4, dtype=torch.bool))
    loss.backward()
    assert loss.item() == 0
    assert not embeddings.grad.any()


def test_the_order_of_the_embeddings_does_not_matter():
    embeddings, positives, order = torch.randn(9, 4), torch.rand(9, 9) < 0.3, torch.randperm(9)
    torch.testing.assert_close(
        SupConLoss()(embeddings[order], positives[order][:, order]), SupConLoss()(embeddings, positives)
    )


def test_the_length_of_the_embeddings_does_not_matter():
    embeddings, positives = torch.randn(8, 4), other_view(4)
    lengths = torch.tensor([1e-4, 1e4]).repeat_interleave(4)[:, None]
    torch.testing.assert_close(SupConLoss()(embeddings * lengths, positives), SupConLoss()(embeddings, positives))


def test_an_anchor_without_positives_is_left_out_yet_repels():
    embeddings, positives = torch.randn(6, 4, requires_grad=True), torch.zeros(6, 6, dtype=torch.bool)
    positives[0, 1] = positives[1, 0] = True
    loss = SupConLoss()(embeddings, positives)
    assert loss.item() == pytest.approx(by_loops(embeddings.detach(), positives, 0.1), rel=1e-5)
    loss.backward()
    assert embeddings.grad[2:].any(dim=1).all()


@pytest.mark.parametrize("n", [1, 4])
def test_without_any_positives_loss_and_gradient_are_zero(n):
    embeddings = torch.randn(n, 3, requires_grad=True)
    loss = SupConLoss()(embeddings, torch.eye(n, dtype=torch.bool))
    loss.backward()
    assert loss.item() == 0
    assert not embeddings.grad.any()


def test_a_small_temperature_overflows_nothing():
    embeddings = torch.randn(8, 4, requires_grad=True)
    loss = SupConLoss(1e-4)(embeddings, other_view(4))
    loss.backward()
    z = torch.nn.functional.normalize(embeddings.detach())
    cos = (z @ z.mT).fill_diagonal_(-1)
    distance = cos.amax(dim=1) - cos[other_view(4).fill_diagonal_(False)]  # of the twin from the nearest
    assert loss.item() == pytest.approx(distance.mean().item() / 1e-4, rel=1e-4)
    assert embeddings.grad.isfinite().all()


def test_the_gradient_is_that_of_the_loss():
    embeddings = torch.randn(5, 3, dtype=torch.float64, requires_grad=True)
    positives = torch.rand(5, 5) < 0.5
    assert torch.autograd.gradcheck(lambda e: SupConLoss()(e, positives), embeddings)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_embeddings_give_the_loss_in_full_precision(dtype):
    embeddings = torch.randn(8, 64).to(dtype).requires_grad_()
    expected = SupConLoss()(embeddings.detach().float(), other_view(4))
    with torch.autocast("cpu", torch.bfloat16):
        loss = SupConLoss()(embeddings, other_view(4))
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, expected, rtol=0, atol=0)
    loss.backward()
    assert embeddings.grad.isfinite().all()


def test_never_waits_for_the_device():
    with FakeTensorMode():
        embeddings = torch.randn(8, 4, requires_grad=True)
        SupConLoss()(embeddings, torch.ones(8, 8, dtype=torch.bool)).backward()


def test_runs_as_many_kernels_for_any_number_of_embeddings():
    def kernels(n):
        embeddings = torch.randn(2 * n, 4, requires_grad=True)
        return count_kernels(lambda: SupConLoss()(embeddings, other_view(n)).backward())

    assert kernels(2) == kernels(30)


@pytest.mark.parametrize("temperature", [0, -0.1, math.nan])
def test_refuses_a_temperature_that_is_not_positive(temperature):
    with pytest.raises(ValueError, match=f"temperature must be positive, got {temperature}"):
        SupConLoss(temperature)


def test_refuses_positives_that_are_no_bool_matrix():
    with pytest.raises(ValueError, match=r"bool matrix \(4, 4\).*got torch.bool \(2, 2\)"):
        SupConLoss()(torch.randn(4, 3), other_view(1))
    with pytest.raises(ValueError, match=r"bool matrix \(4, 4\).*got torch.float32 \(4, 4\)"):
        SupConLoss()(torch.randn(4, 3), other_view(2).float())
