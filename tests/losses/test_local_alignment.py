import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from torch._subclasses.fake_tensor import FakeTensorMode

from benchmarks.counting import count_kernels
from medssl.losses import LocalAlignmentLoss

WINDOWS = [2, 3, 4, 6, None]


def ordered_pairs(n):
    return ~torch.eye(n, dtype=torch.bool)


def rows(x_i, x_j, window):
    """Equation 1 of the SAL paper for one pair ``(C, *)``: every position k of i looks for its best l of j."""
    positions = list(itertools.product(*map(range, x_i.shape[1:])))
    x_i, x_j = F.normalize(x_i, dim=0), F.normalize(x_j, dim=0)
    terms = []
    for k in positions:
        near = [m for m in positions if window is None or [a // window for a in m] == [a // window for a in k]]
        terms.append(1 - torch.stack([x_i[:, *k] @ x_j[:, *m] for m in near]).max())
    return torch.stack(terms).mean()


def columns(x_i, x_j, window):
    """The other reading of the paper's maximum: every position l of j looks for its best k of i."""
    return rows(x_j, x_i, window)


def by_loops(x, pairs, window, reading=rows):
    return torch.stack([reading(x[i], x[j], window) for i, j in pairs.nonzero().tolist()]).mean()


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("size", [(6, 6), (5, 7), (4, 3)])
def test_equals_the_loops_of_the_paper_whether_the_window_divides_the_size_or_not(window, size):
    x, pairs = torch.randn(3, 4, *size), ordered_pairs(3)
    pairs[0, 1] = False
    loss = LocalAlignmentLoss(window)(x, pairs)
    torch.testing.assert_close(loss, by_loops(x, pairs, window))


@pytest.mark.parametrize("window", [2, None])
@pytest.mark.parametrize("size", [(5,), (3, 2, 4)])
def test_equals_the_loops_in_one_and_three_dimensions(window, size):
    x = torch.randn(2, 3, *size)
    torch.testing.assert_close(LocalAlignmentLoss(window)(x, ordered_pairs(2)), by_loops(x, ordered_pairs(2), window))


@pytest.mark.parametrize("window", [2, 3, None])
def test_matches_are_looked_for_among_targets_where_these_are_given(window):
    x, targets, pairs = torch.randn(3, 4, 5, 4), torch.randn(3, 4, 5, 4), ordered_pairs(3)
    expected = torch.stack([rows(x[i], targets[j], window) for i, j in pairs.nonzero().tolist()]).mean()
    torch.testing.assert_close(LocalAlignmentLoss(window)(x, pairs, targets), expected)


@pytest.mark.parametrize("window", [2, None])
def test_the_gradient_equals_that_of_the_loops(window):
    x, pairs = torch.randn(3, 3, 3, 5, requires_grad=True), ordered_pairs(3)
    expected = torch.autograd.grad(by_loops(x, pairs, window), x)
    torch.testing.assert_close(torch.autograd.grad(LocalAlignmentLoss(window)(x, pairs), x), expected)


def test_the_gradient_is_that_of_the_loss():
    x = torch.randn(2, 2, 3, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: LocalAlignmentLoss(2)(x, ordered_pairs(2)), x)


@pytest.mark.parametrize("window", WINDOWS)
def test_rows_and_columns_have_the_same_mean_over_ordered_pairs_only(window):
    x, pairs = torch.randn(3, 4, 5, 4), ordered_pairs(3)
    loss = LocalAlignmentLoss(window)
    torch.testing.assert_close(loss(x, pairs), by_loops(x, pairs, window, columns))
    assert loss(x, pairs.triu()).item() != pytest.approx(by_loops(x, pairs.triu(), window, columns).item(), abs=1e-4)


def test_nothing_is_cropped():
    x = torch.randn(2, 3, 5, 7, requires_grad=True)
    LocalAlignmentLoss(3)(x, ordered_pairs(2)).backward()
    assert x.grad.any(dim=1).all()


def test_a_window_as_large_as_the_map_is_the_whole_plane():
    x, pairs = torch.randn(3, 4, 5, 6), torch.rand(3, 3) < 0.7
    plane = LocalAlignmentLoss(None)(x, pairs)
    for window in (6, 9):
        torch.testing.assert_close(LocalAlignmentLoss(window)(x, pairs), plane)


def test_a_window_of_one_compares_position_with_position():
    x = torch.randn(2, 4, 5, 6)
    torch.testing.assert_close(
        LocalAlignmentLoss(1)(x, ordered_pairs(2)), 1 - F.cosine_similarity(x[0], x[1], 0).mean()
    )


def test_a_larger_window_never_costs_more():
    x, pairs = torch.randn(3, 4, 12, 12), ordered_pairs(3)
    losses = [LocalAlignmentLoss(window)(x, pairs).item() for window in (2, 4, 12)]
    assert losses == sorted(losses, reverse=True)
    assert LocalAlignmentLoss(None)(x, pairs).item() == pytest.approx(losses[-1], rel=1e-5)


def test_the_order_of_the_slices_does_not_matter():
    x, pairs, order = torch.randn(5, 3, 4, 4), torch.rand(5, 5) < 0.5, torch.randperm(5)
    loss = LocalAlignmentLoss(2)
    torch.testing.assert_close(loss(x[order], pairs[order][:, order]), loss(x, pairs))


@pytest.mark.parametrize("window", [2, 3, None])
def test_groups_of_slices_give_the_loss_of_the_pairs_inside_them(window):
    x, groups = torch.randn(6, 3, 4, 5, requires_grad=True), torch.rand(2, 3, 3) < 0.5
    together, apart = (
        LocalAlignmentLoss(window)(x, torch.block_diag(*groups).bool()),
        LocalAlignmentLoss(window)(x, groups),
    )
    torch.testing.assert_close(apart, together)
    torch.testing.assert_close(torch.autograd.grad(apart, x), torch.autograd.grad(together, x))


def test_the_order_inside_a_window_does_not_matter():
    x, pairs = torch.randn(3, 4, 4, 4), ordered_pairs(3)
    swapped = x.clone()
    swapped[1, :, :2, 2:] = x[1, :, :2, 2:].flip(1, 2)
    torch.testing.assert_close(LocalAlignmentLoss(2)(swapped, pairs), LocalAlignmentLoss(2)(x, pairs))


def test_the_length_of_the_vectors_does_not_matter():
    x, pairs = torch.randn(3, 4, 5, 4), ordered_pairs(3)
    lengths = 10 ** torch.empty(3, 1, 5, 4).uniform_(-3, 3)
    torch.testing.assert_close(LocalAlignmentLoss(2)(x * lengths, pairs), LocalAlignmentLoss(2)(x, pairs))


@pytest.mark.parametrize("window", WINDOWS)
def test_equal_vectors_and_equal_slices_cost_nothing(window):
    constant = torch.randn(1, 8, 1, 1).expand(3, 8, 5, 5)
    equal = torch.randn(1, 8, 5, 5).expand(3, 8, 5, 5)
    for x in (constant, equal):
        assert LocalAlignmentLoss(window)(x, ordered_pairs(3)).item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("window", [2, None])
def test_without_pairs_loss_and_gradient_are_zero(window):
    x = torch.randn(3, 4, 5, 5, requires_grad=True)
    loss = LocalAlignmentLoss(window)(x, torch.zeros(3, 3, dtype=torch.bool))
    loss.backward()
    assert loss.item() == 0
    assert not x.grad.any()


def test_a_slice_in_no_pair_gets_no_gradient():
    x, pairs = torch.randn(3, 4, 4, 4, requires_grad=True), torch.zeros(3, 3, dtype=torch.bool)
    pairs[0, 1] = True
    LocalAlignmentLoss(2)(x, pairs).backward()
    assert x.grad[:2].any(dim=1).any()
    assert not x.grad[2].any()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("window", [2, 3, None])
def test_half_precision_features_give_the_loss_in_full_precision(dtype, window):
    x = torch.randn(3, 16, 4, 5).to(dtype).requires_grad_()
    expected = LocalAlignmentLoss(window)(x.detach().float(), ordered_pairs(3))
    with torch.autocast("cpu", torch.bfloat16):
        loss = LocalAlignmentLoss(window)(x, ordered_pairs(3))
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, expected)
    loss.backward()
    assert x.grad.isfinite().all()


def test_features_may_lie_in_memory_channels_last():
    x = torch.randn(3, 8, 5, 5)
    loss = LocalAlignmentLoss(2)
    torch.testing.assert_close(
        loss(x.to(memory_format=torch.channels_last), ordered_pairs(3)), loss(x, ordered_pairs(3))
    )


@pytest.mark.parametrize("window", [2, 3, None])
def test_never_waits_for_the_device(window):
    with FakeTensorMode():
        x = torch.randn(4, 3, 4, 4, requires_grad=True)
        LocalAlignmentLoss(window)(x, torch.ones(4, 4, dtype=torch.bool)).backward()


@pytest.mark.parametrize("window", [2, 3])
def test_runs_as_many_kernels_for_any_number_and_size_of_slices(window):
    def kernels(n, size):
        x = torch.randn(n, 3, size, size, requires_grad=True)
        return count_kernels(lambda: LocalAlignmentLoss(window)(x, ordered_pairs(n)).backward())

    assert kernels(2, 4) == kernels(9, 4) == kernels(2, 16)


@pytest.mark.parametrize("window", [0, -1, 1.5, math.nan])
def test_refuses_a_window_that_is_no_positive_whole_number(window):
    with pytest.raises(ValueError, match=f"positive whole number, got {window}; None takes the whole plane"):
        LocalAlignmentLoss(window)


@pytest.mark.parametrize("pairs", [torch.ones(2, 2), torch.ones(3, 2), torch.ones(2, 3, 3), torch.ones(3, 1, 3)])
def test_refuses_pairs_that_are_not_one_row_per_slice(pairs):
    with pytest.raises(
        ValueError, match=r"pairs must be a bool matrix \(3, 3\), one row per slice.*got torch.bool \(\d, "
    ):
        LocalAlignmentLoss()(torch.randn(3, 4, 4, 4), pairs.bool())


def test_refuses_pairs_that_are_weights():
    with pytest.raises(ValueError, match=r"bool matrix \(3, 3\).*got torch.float32 \(3, 3\)"):
        LocalAlignmentLoss()(torch.randn(3, 4, 4, 4), ordered_pairs(3).float())


def test_refuses_features_without_a_plane():
    with pytest.raises(ValueError, match=r"\(N, C, \*\) with 1 to 3 spatial sizes, got \(3, 4\)"):
        LocalAlignmentLoss()(torch.randn(3, 4), ordered_pairs(3))


def test_refuses_targets_of_another_shape():
    with pytest.raises(ValueError, match=r"targets must be \(3, 4, 4, 4\) as features are, got \(3, 4, 2, 2\)"):
        LocalAlignmentLoss()(torch.randn(3, 4, 4, 4), ordered_pairs(3), torch.randn(3, 4, 2, 2))
