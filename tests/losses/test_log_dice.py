import torch
from torch.testing import assert_close

from medssl.losses import LogDiceLoss


def test_equals_the_mean_of_the_formula_over_the_classes_that_are_there():
    probabilities, label = torch.rand(2, 4, 3, 3).softmax(dim=1), torch.randint(0, 2, (2, 1, 3, 3)) * 2
    label[0, 0, 0, :2] = torch.tensor([0, 2])  # both are there
    terms = []
    for c in (0, 2):
        p, y = probabilities[:, c], (label[:, 0] == c).float()
        terms.append(-torch.log(2 * (p * y).sum() / (p.sum() + y.sum())))
    assert_close(LogDiceLoss()(probabilities, label), torch.stack(terms).mean())


def test_an_absent_class_is_pushed_by_the_others_alone():
    label = torch.zeros(1, 1, 4, 4)
    probabilities = torch.full((1, 3, 4, 4), 1 / 3, requires_grad=True)
    LogDiceLoss()(probabilities, label).backward()
    assert probabilities.grad[:, 0].any()
    assert not probabilities.grad[:, 1:].any()


def test_a_class_that_is_nearly_given_up_is_still_pulled_up():
    label = torch.zeros(1, 1, 8, 8)
    label[..., :2, :2] = 1
    logits = torch.zeros(1, 2, 8, 8)
    logits[:, 1] = -9.0  # a probability of .0001
    logits.requires_grad_()
    LogDiceLoss()(logits.softmax(dim=1), label).backward()
    assert logits.grad[0, 1, :2, :2].sum() < -0.3


def test_a_perfect_answer_costs_nothing():
    label = torch.tensor([0, 1, 1, 2]).view(1, 1, 2, 2)
    perfect = torch.nn.functional.one_hot(label[:, 0], 3).movedim(-1, 1).float()
    assert_close(LogDiceLoss()(perfect, label), torch.tensor(0.0), atol=1e-5, rtol=0)
