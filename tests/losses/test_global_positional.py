import math
from fractions import Fraction

import pytest
import torch
from monai.losses import ContrastiveLoss
from torch._subclasses.fake_tensor import FakeTensorMode

from benchmarks.counting import count_kernels
from medssl.losses import GlobalPositionalLoss, SupConLoss
from medssl.losses.global_positional import positional_pairs

# Two views of the slices 1, 2, 3, 4 of four, and their loss in the PCL reference code, whose base temperature is .07.
STEPS = torch.arange(20.0).view(4, 5) + 1
WAVES = torch.cat([STEPS.sin(), STEPS.cos()])
INDEX, DEPTH = torch.tensor([1, 2, 3, 4]).repeat(2), torch.full((8,), 4)
REFERENCE = {0.1: 11.6401854, 0.35: 10.5157538, 0.51: 13.2768841}


def close(i, v, j, u, t):
    return abs(Fraction(i, v) - Fraction(j, u)) < Fraction(t)


def all_slices(*depths):
    """Index and depth of every slice of volumes of these depths."""
    return torch.cat([torch.arange(v) for v in depths]), torch.tensor(depths).repeat_interleave(torch.tensor(depths))


def judged_in_floats(index, depth, t):
    """The reference's way: positions (i + 1) / V, compared as floating-point numbers."""
    position = ((index + 1).double() / depth).tolist()
    return torch.tensor([[abs(a - b) < t for b in position] for a in position])


def by_loops(embeddings, index, depth, t, temperature):
    """Equation 2 of the SAL paper, averaged over the slices."""
    n, total = len(embeddings), 0.0
    f = torch.nn.functional.normalize(embeddings.double())
    for i in range(n):
        mine = [j for j in range(n) if j != i and close(int(index[i]), int(depth[i]), int(index[j]), int(depth[j]), t)]
        bottom = sum(math.exp(f[i] @ f[q] / temperature) for q in range(n) if q != i)
        total -= sum(math.log(math.exp(f[i] @ f[j] / temperature) / bottom) for j in mine) / len(mine)
    return total / n


@pytest.mark.parametrize("threshold", [0.1, 0.25, 0.35])
def test_equals_the_sums_of_the_paper(threshold):
    index, depth = torch.tensor([0, 2, 5, 3, 8]).repeat(2), torch.tensor([9, 9, 9, 12, 12]).repeat(2)
    embeddings = torch.randn(10, 4)
    loss = GlobalPositionalLoss(threshold)(embeddings, index, depth)
    assert loss.item() == pytest.approx(by_loops(embeddings, index, depth, str(threshold), 0.1), rel=1e-5)


@pytest.mark.parametrize("threshold", REFERENCE)
def test_equals_the_pcl_reference_with_its_base_temperature(threshold):
    loss = GlobalPositionalLoss(threshold, base_temperature=0.07)(WAVES, INDEX, DEPTH)
    assert loss.item() == pytest.approx(REFERENCE[threshold], rel=1e-6)


def test_the_pcl_reference_is_ten_sevenths_of_the_paper():
    printed = GlobalPositionalLoss(0.35)(WAVES, INDEX, DEPTH)
    reference = GlobalPositionalLoss(0.35, base_temperature=0.07)(WAVES, INDEX, DEPTH)
    assert (reference / printed).item() == pytest.approx(1.4285714, rel=1e-6)


def test_a_vanishing_threshold_leaves_nt_xent():
    loss = GlobalPositionalLoss(1e-6)(WAVES, INDEX, DEPTH)
    torch.testing.assert_close(loss, ContrastiveLoss(temperature=0.1)(WAVES[:4], WAVES[4:]))


@pytest.mark.parametrize("base_temperature", [None, 0.07])
def test_equal_embeddings_give_the_collapse_constant(base_temperature):
    loss = GlobalPositionalLoss(0.35, base_temperature=base_temperature)(torch.ones(50, 3), *two_views(25))
    assert loss.item() == pytest.approx(5.5597 if base_temperature else math.log(49), rel=1e-5)


def two_views(n):
    return torch.arange(n).repeat(2), torch.full((2 * n,), n)


def test_the_order_of_the_slices_does_not_matter():
    embeddings, (index, depth), order = torch.randn(20, 4), two_views(10), torch.randperm(20)
    loss = GlobalPositionalLoss(0.35)
    torch.testing.assert_close(loss(embeddings[order], index[order], depth[order]), loss(embeddings, index, depth))


def test_volumes_of_any_depth_compare_by_fraction():
    index, depth = torch.tensor([1, 2, 300]), torch.tensor([2, 4, 600])
    assert positional_pairs(index, depth, Fraction(1, 10**6)).all()


@pytest.mark.parametrize(
    ("v", "t", "misjudged"), [(10, 0.1, 12), (20, 0.1, 24), (20, 0.05, 20), (12, 0.25, 2), (10, 0.35, 0)]
)
def test_judges_distances_equal_to_the_threshold_where_floats_fail(v, t, misjudged):
    index, depth = all_slices(v)
    pairs = positional_pairs(index, depth, Fraction(str(t)))
    assert pairs.tolist() == [[close(i, v, j, v, str(t)) for j in range(v)] for i in range(v)]
    assert (judged_in_floats(index, depth, t) != pairs).sum() == misjudged


def test_counting_slices_from_one_would_change_two_of_ninety_pairs():
    index, depth = all_slices(9, 10)
    zero, one = (positional_pairs(i, depth, Fraction("0.35"))[:9, 9:] for i in (index, index + 1))
    assert zero.tolist() == [[close(i, 9, j, 10, "0.35") for j in range(10)] for i in range(9)]
    assert zero.sum() == 51
    assert (zero != one).sum() == 2


def test_an_average_batch_holds_the_positives_that_were_counted():
    """16 slices of 9 and 16 of 10, two views, t = .35: 37.1 positives of 63, by simulation."""
    pairs = positional_pairs(*all_slices(9, 10), Fraction("0.35")).double()
    own = (pairs[:9, :9].mean() + pairs[9:, 9:].mean()) / 2
    assert 1 + 30 * own + 32 * pairs[:9, 9:].mean() == pytest.approx(37.1, rel=0.01)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32])
def test_short_integers_do_not_overflow(dtype):
    index, depth = all_slices(200)
    expected = positional_pairs(index, depth, Fraction("0.105"))
    assert positional_pairs(index.to(dtype), depth.to(dtype), Fraction("0.105")).equal(expected)


@pytest.mark.parametrize(
    ("given", "fraction"),
    [(0.35, "7/20"), (0.1, "1/10"), (1 / 3, "1/3"), (0.1 + 0.2, "3/10"), (Fraction(2, 7), "2/7"), (1, "1")],
)
def test_takes_the_threshold_as_it_is_printed(given, fraction):
    assert GlobalPositionalLoss(given).threshold == Fraction(fraction)


def test_the_finest_threshold_and_the_deepest_volume_fit_the_integers():
    index, depth = torch.tensor([0, 999_999, 999_998]), torch.full((3,), 10**6)
    pairs = positional_pairs(index, depth, GlobalPositionalLoss(0.999999).threshold)
    assert pairs.tolist() == [[True, False, True], [False, True, True], [True, True, True]]


def test_the_gradient_is_that_of_the_loss():
    embeddings = torch.randn(6, 3, dtype=torch.float64, requires_grad=True)
    loss = GlobalPositionalLoss(0.35, base_temperature=0.07)
    assert torch.autograd.gradcheck(lambda e: loss(e, *two_views(3)), embeddings)


def test_slices_far_from_all_others_leave_loss_and_gradient_finite():
    embeddings = torch.randn(3, 4, requires_grad=True)
    loss = GlobalPositionalLoss(0.1)(embeddings, torch.tensor([0, 5, 9]), torch.full((3,), 10))
    loss.backward()
    assert loss.item() == 0
    assert embeddings.grad.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_embeddings_give_the_loss_in_full_precision(dtype):
    embeddings, places = torch.randn(10, 64).to(dtype), two_views(5)
    loss = GlobalPositionalLoss(0.35)(embeddings, *places)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, GlobalPositionalLoss(0.35)(embeddings.float(), *places), rtol=0, atol=0)


def test_never_waits_for_the_device():
    with FakeTensorMode():
        GlobalPositionalLoss(0.35)(torch.randn(8, 4, requires_grad=True), *two_views(4)).backward()


def test_runs_as_many_kernels_for_any_number_of_slices():
    def kernels(n):
        embeddings, places = torch.randn(2 * n, 4, requires_grad=True), two_views(n)
        return count_kernels(lambda: GlobalPositionalLoss(0.35)(embeddings, *places).backward())

    assert kernels(2) == kernels(40)


@pytest.mark.parametrize("threshold", [0, -0.1, 1e-9, math.nan, math.inf])
def test_refuses_a_threshold_that_is_not_positive(threshold):
    with pytest.raises(ValueError, match=f"threshold must be positive, 1e-06 at least, got {threshold}"):
        GlobalPositionalLoss(threshold)


def test_refuses_temperatures_that_are_not_positive():
    with pytest.raises(ValueError, match="temperature must be positive, got 0"):
        GlobalPositionalLoss(0.35, temperature=0)
    with pytest.raises(ValueError, match="base_temperature must be positive, got 0; None leaves it out"):
        GlobalPositionalLoss(0.35, base_temperature=0)


def test_refuses_positions_that_were_divided_already():
    with pytest.raises(
        ValueError, match=r"must be integers, got torch.float32 and torch.int64; give the slice's number"
    ):
        GlobalPositionalLoss(0.35)(WAVES, INDEX / DEPTH, DEPTH)


def test_refuses_positions_that_are_not_one_an_embedding():
    with pytest.raises(ValueError, match=r"bool matrix \(8, 8\)"):
        GlobalPositionalLoss(0.35)(WAVES, INDEX[:4], DEPTH[:4])


def test_is_the_supervised_contrastive_loss_of_its_pairs():
    expected = SupConLoss(0.2)(WAVES, positional_pairs(INDEX, DEPTH, Fraction("0.35")))
    torch.testing.assert_close(GlobalPositionalLoss(0.35, 0.2)(WAVES, INDEX, DEPTH), expected)
