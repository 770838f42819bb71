import pytest
import torch
import torch.nn.functional as F

from medssl.methods.spread import collapse_metrics, effective_rank, spread


def test_the_spread_is_one_on_a_full_sphere_and_nought_in_a_point():
    assert spread(torch.randn(20_000, 8)).item() == pytest.approx(1, abs=0.01)
    assert spread(torch.ones(16, 8)).item() == pytest.approx(0, abs=1e-3)


def test_vectors_of_zeros_are_not_counted():
    vectors = torch.randn(6, 3)
    padded = torch.cat([vectors, torch.zeros(5, 3)])
    assert spread(padded).item() == pytest.approx(spread(vectors).item(), rel=1e-5)
    assert effective_rank(padded).item() == pytest.approx(effective_rank(vectors).item(), rel=1e-5)


def test_where_all_are_zeros_nothing_is_spread():
    assert spread(torch.zeros(3, 4)).item() == 0


def test_of_several_sets_it_is_the_mean():
    sets = torch.randn(3, 5, 4)
    sets[1] = sets[1, :1]  # one point, far from those of the other sets
    for measure in (spread, effective_rank):
        apart = torch.stack([measure(vectors) for vectors in sets]).mean()
        assert measure(sets).item() == pytest.approx(apart.item(), rel=1e-5)


@pytest.mark.parametrize("shape", [(7, 30), (30, 7)])
def test_the_rank_is_the_participation_ratio_of_the_eigenvalues(shape):
    z = F.normalize(torch.randn(shape).double() * torch.arange(1, shape[1] + 1), dim=1)
    eigenvalues = torch.linalg.eigvalsh(z.mT @ z)
    expected = eigenvalues.sum() ** 2 / eigenvalues.square().sum()
    assert effective_rank(z * 5).item() == pytest.approx(expected.item(), rel=1e-4)


def test_the_rank_counts_directions():
    assert effective_rank(torch.eye(5)).item() == pytest.approx(5)
    assert effective_rank(torch.tensor([[1.0, 0.0], [-3.0, 0.0], [2.0, 0.0]])).item() == pytest.approx(1)
    assert effective_rank(torch.zeros(3, 4)).item() == 0
    assert effective_rank(torch.randn(5000, 6)).item() == pytest.approx(6, abs=0.1)


def test_both_are_watched_without_a_gradient():
    watched = collapse_metrics(torch.randn(4, 8, requires_grad=True))
    assert watched.keys() == {"spread", "rank"}
    assert not any(value.requires_grad for value in watched.values())
