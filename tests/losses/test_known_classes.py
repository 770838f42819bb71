import pytest
import torch
from monai.losses import DiceLoss

from medssl.losses import KnownClassesLoss, LogDiceCELoss
from medssl.losses.known_classes import join_background

DRAWS = torch.Generator().manual_seed(0)  # not torch's own: drawn before a test begins
LOGITS = torch.randn(2, 4, 5, 6, generator=DRAWS)
LABEL = torch.randint(0, 2, (2, 1, 5, 6), generator=DRAWS)  # classes 2 and 3 are nowhere


def make(known):
    loss = KnownClassesLoss(DiceLoss(to_onehot_y=True, batch=True))
    return lambda logits: loss(logits, {"label": LABEL, "known": torch.tensor(known)})


def test_with_all_classes_known_it_is_the_dice_loss():
    loss = make([[True] * 4] * 2)(LOGITS)
    assert loss == DiceLoss(to_onehot_y=True, softmax=True, batch=True)(LOGITS, LABEL)


def test_moving_probability_between_background_and_unknown_organs_changes_exactly_nothing():
    known = torch.tensor([[True, True, False, False]] * 2)
    sixteenths = torch.tensor([6, 4, 4, 2]).view(1, 4, 1, 1).expand(2, 4, 5, 6) / 16  # sums of these are not rounded
    moved = sixteenths + torch.tensor([2, 0, -3, 1]).view(1, 4, 1, 1) / 16
    assert torch.equal(join_background(moved, known), join_background(sixteenths, known))


def test_an_organ_that_floods_an_image_without_the_contours_of_another_is_pushed_back():
    logits = torch.zeros(1, 3, 4, 4)
    logits[:, 1] = 20.0  # 1 less its probability is 0 in single precision
    logits.requires_grad_()
    target = {"label": torch.zeros(1, 1, 4, 4), "known": torch.tensor([[True, True, False]])}
    loss = KnownClassesLoss(LogDiceCELoss())(logits, target)
    loss.backward()
    assert loss > 19
    assert logits.grad[0, 1].sum() > 0.9


def test_the_background_takes_what_is_left():
    joined = join_background(LOGITS.softmax(dim=1), torch.tensor([[True, True, False, False], [True] * 4]))
    torch.testing.assert_close(joined.sum(dim=1), torch.ones(2, 5, 6))
    assert not joined[0, 2:].any()
    assert torch.equal(joined[1], LOGITS.softmax(dim=1)[1])


def test_the_loss_is_blind_to_which_unknown_organ_a_voxel_is_called():
    loss = make([[True, True, False, False]] * 2)
    swapped = LOGITS[:, [3, 1, 0, 2]]  # the known organ keeps its logits, the others change theirs
    torch.testing.assert_close(loss(swapped), loss(LOGITS))


def test_an_organ_is_learnt_from_the_images_that_know_it_alone():
    label = torch.full((2, 1, 5, 6), 2)
    label[1] = 0
    known = torch.tensor([[True, False, True, False], [True, True, False, True]])
    loss = KnownClassesLoss(DiceLoss(to_onehot_y=True, batch=True, include_background=False))
    logits = LOGITS.clone().requires_grad_()
    loss(logits, {"label": label, "known": known}).backward()
    assert logits.grad[0, 2].abs().sum() > 0
    rather_2 = LOGITS.clone()
    rather_2[1, 2], rather_2[1, 0] = LOGITS[1, 0], LOGITS[1, 2]
    torch.testing.assert_close(
        loss(rather_2, {"label": label, "known": known}), loss(LOGITS, {"label": label, "known": known})
    )


def test_refuses_a_table_that_does_not_fit():
    with pytest.raises(ValueError, match=r"known must be \(2, 4\), a row per image, got \(1, 3\)"):
        make([[True] * 3])(LOGITS)
