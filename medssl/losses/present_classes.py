"""Dice over the classes that a batch holds."""

import torch
from monai.losses import DiceLoss
from torch import Tensor, nn


class PresentClassesDiceLoss(nn.Module):
    r"""Average MONAI's Dice loss of a batch over the classes that its labels hold.

    .. math:: \mathcal{L} = \operatorname{mean}_{c : \sum y_c > 0}
        \left(1 - \frac{2 \sum p_c y_c}{\sum p_c + \sum y_c}\right)

    with sums over all pixels of the batch. The Dice loss of a class without pixels is 1 as long as any probability is
    left: it would push a rare organ to 0 in most batches, and for good.

    Shape:
        - probabilities: :math:`(B, C, *)`, background first; label: :math:`(B, 1, *)`, whole numbers.
        - output: scalar.
    """

    def __init__(self) -> None:
        super().__init__()
        self.dice = DiceLoss(to_onehot_y=True, batch=True, reduction="none")

    def forward(self, probabilities: Tensor, label: Tensor) -> Tensor:
        """Return the mean over the present classes."""
        losses = self.dice(probabilities, label).flatten()  # (C)
        present = torch.zeros_like(losses).scatter_(0, label.flatten().long(), 1.0)
        return (losses * present).sum() / present.sum()
