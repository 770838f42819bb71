import torch
from monai.losses import DiceLoss

from medssl.losses import PresentClassesDiceLoss


def test_with_all_classes_present_it_is_the_dice_loss():
    probabilities, label = torch.rand(2, 3, 4, 5).softmax(dim=1), torch.arange(40).view(2, 1, 4, 5) % 3
    expected = DiceLoss(to_onehot_y=True, batch=True)(probabilities, label)
    torch.testing.assert_close(PresentClassesDiceLoss()(probabilities, label), expected)


def test_equals_the_mean_of_the_formula_over_the_classes_that_are_there():
    probabilities, label = torch.rand(2, 4, 3, 3).softmax(dim=1), torch.randint(0, 2, (2, 1, 3, 3)) * 2
    terms = []
    for c in (0, 2):
        p, y = probabilities[:, c], (label[:, 0] == c).float()
        terms.append(1 - 2 * (p * y).sum() / (p.sum() + y.sum()))
    torch.testing.assert_close(PresentClassesDiceLoss()(probabilities, label), torch.stack(terms).mean())


def test_an_absent_class_is_pushed_by_the_others_alone():
    label = torch.zeros(1, 1, 4, 4)
    probabilities = torch.full((1, 3, 4, 4), 1 / 3, requires_grad=True)
    PresentClassesDiceLoss()(probabilities, label).backward()
    assert probabilities.grad[:, 0].any()
    assert not probabilities.grad[:, 1:].any()
