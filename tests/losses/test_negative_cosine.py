import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from medssl.losses import NegativeCosineLoss


def test_equals_the_mean_of_the_cosines_one_by_one():
    prediction, target = torch.randn(3, 5), torch.randn(3, 5)
    cosines = [p @ z / (p.norm() * z.norm()) for p, z in zip(prediction, target, strict=True)]
    torch.testing.assert_close(NegativeCosineLoss()(prediction, target), -sum(cosines) / 3)


def test_of_vectors_of_unit_length_it_is_byols_squared_distance():
    prediction, target = (torch.nn.functional.normalize(torch.randn(4, 8), dim=1) for _ in range(2))
    distance = (prediction - target).square().sum(dim=1).mean()
    torch.testing.assert_close(2 + 2 * NegativeCosineLoss()(prediction, target), distance)


def test_the_length_of_the_vectors_does_not_matter_and_equal_ones_reach_the_floor():
    prediction, target = torch.randn(4, 8), torch.randn(4, 8)
    loss = NegativeCosineLoss()
    torch.testing.assert_close(loss(prediction * 9, target * 0.1), loss(prediction, target))
    assert loss(prediction, prediction).item() == pytest.approx(-1)


def test_the_gradient_goes_to_both_where_neither_is_detached():
    prediction, target = (torch.randn(4, 8, requires_grad=True) for _ in range(2))
    NegativeCosineLoss()(prediction, target).backward()
    assert prediction.grad.abs().sum() > 0
    assert target.grad.abs().sum() > 0


def test_half_precision_gives_the_loss_in_full_precision():
    prediction, target = torch.randn(4, 8).bfloat16(), torch.randn(4, 8).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        loss = NegativeCosineLoss()(prediction, target)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, NegativeCosineLoss()(prediction.float(), target.float()))


def test_never_waits_for_the_device():
    with FakeTensorMode():
        NegativeCosineLoss()(torch.randn(4, 8, requires_grad=True), torch.randn(4, 8)).backward()


def test_refuses_vectors_that_do_not_fit():
    with pytest.raises(ValueError, match=r"must both be \(B, D\), got \(4, 8\) and \(3, 8\)"):
        NegativeCosineLoss()(torch.randn(4, 8), torch.randn(3, 8))
