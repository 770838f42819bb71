import pytest
import torch

from medssl.transforms import RandBezierBatch


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


RAMP = torch.linspace(0, 1, 65).view(1, 1, 5, 13).expand(200, -1, -1, -1)


def test_curves_are_monotonous_from_end_to_end_and_half_of_them_fall():
    bent = RandBezierBatch(probability=1)(RAMP).flatten(1)
    rising, falling = (step.all(dim=1) for step in (bent.diff(dim=1) >= 0, bent.diff(dim=1) <= 0))
    assert (rising | falling).all()
    assert rising.float().mean().item() == pytest.approx(0.5, abs=0.1)
    torch.testing.assert_close(bent[rising][:, [0, -1]], torch.tensor([0.0, 1.0]).expand(int(rising.sum()), 2))
    torch.testing.assert_close(bent[falling][:, [0, -1]], torch.tensor([1.0, 0.0]).expand(int(falling.sum()), 2))


def test_a_value_is_mapped_to_where_the_curve_of_its_image_is(monkeypatch):
    """Control points (1/3, 1/3) and (2/3, 2/3) make a straight line, (0, 1) and (0, 1) a known curve."""
    draws = iter([torch.tensor([[1 / 3, 1 / 3], [2 / 3, 2 / 3]]), torch.tensor([[0.0, 1.0], [0.0, 1.0]])])

    def rand(*shape, **options):
        points = next(draws, None) if shape[:2] == (2, 2) else None
        return torch.full(shape, 0.9) if points is None else points.view(2, 2, 1, 1)

    monkeypatch.setattr(torch, "rand", rand)
    values = torch.linspace(0, 1, 9).view(1, 1, 3, 3)
    torch.testing.assert_close(RandBezierBatch(1)(values), values, atol=1e-4, rtol=0)
    t = values ** (1 / 3)  # x = t^3
    expected = 3 * (1 - t) ** 2 * t + 3 * (1 - t) * t**2 + t**3
    torch.testing.assert_close(RandBezierBatch(1)(values), expected, atol=2e-2, rtol=0)


def test_the_probability_is_kept():
    changed = (RandBezierBatch(0.5)(RAMP) != RAMP).flatten(1).any(dim=1)
    assert changed.float().mean().item() == pytest.approx(0.5, abs=0.12)
    with pytest.raises(ValueError, match=r"probability must lie in \[0, 1\], got 2"):
        RandBezierBatch(2)
