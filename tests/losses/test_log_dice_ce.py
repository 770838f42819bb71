import torch
from torch.testing import assert_close

from medssl.losses import LogDiceCELoss


def test_equals_the_mean_of_the_formula_over_the_classes_that_are_there():
    probabilities, label = torch.rand(2, 4, 3, 3).softmax(dim=1), torch.randint(0, 2, (2, 1, 3, 3)) * 2
    label[0, 0, 0, :2] = torch.tensor([0, 2])  # both are there
    terms = []
    for c in (0, 2):
        p, y = probabilities[:, c], (label[:, 0] == c).float()
        terms.append(-torch.log(2 * (p * y).sum() / (p.sum() + y.sum())))
    of_truth = [probabilities[b, label[b, 0, i, j], i, j] for b in range(2) for i in range(3) for j in range(3)]
    expected = torch.stack(terms).mean() - torch.stack(of_truth).log().mean()
    assert_close(LogDiceCELoss()(probabilities, label), expected)


def gradient(label, *logits):
    """Of the logits, one number a class everywhere."""
    start = torch.tensor(logits).view(1, -1, 1, 1).expand(-1, -1, *label.shape[2:]).clone().requires_grad_()
    LogDiceCELoss()(start.softmax(dim=1), label).backward()
    return start.grad[0]


def test_a_class_that_is_nearly_given_up_is_still_pulled_up():
    label = torch.zeros(1, 1, 8, 8)
    label[..., :2, :2] = 1
    assert gradient(label, 0.0, -9.0)[1, :2, :2].sum() < -0.3  # a probability of .0001


def test_a_class_that_has_flooded_the_background_is_still_pushed_back():
    label = torch.zeros(1, 1, 8, 8)
    label[..., :2, :2] = 1
    assert gradient(label, 0.0, 9.0)[1, 2:].sum() > 0.3  # a probability of .9999


def test_a_class_that_is_nowhere_can_be_pushed_back_too():
    assert gradient(torch.zeros(1, 1, 4, 4), 0.0, 9.0)[1].sum() > 0.3


def test_a_perfect_answer_costs_nothing():
    label = torch.tensor([0, 1, 1, 2]).view(1, 1, 2, 2)
    perfect = torch.nn.functional.one_hot(label[:, 0], 3).movedim(-1, 1).float()
    assert_close(LogDiceCELoss()(perfect, label), torch.tensor(0.0), atol=1e-5, rtol=0)
