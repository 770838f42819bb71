"""The logarithm of Dice, over the classes that a batch holds."""

import torch
from monai.losses import DiceLoss
from torch import Tensor, nn


class LogDiceLoss(nn.Module):
    r"""Average :math:`-\ln \text{Dice}` of a batch, of MONAI's Dice loss, over the classes that its labels hold.

    .. math:: \mathcal{L} = \operatorname{mean}_{c : \sum y_c > 0}
        -\ln \frac{2 \sum p_c y_c}{\sum p_c + \sum y_c}

    with sums over all pixels of the batch. Two things about the Dice loss itself give a small organ up for good: for a
    class without pixels it is 1 as long as any probability is left, and the gradient of a class's logits vanishes with
    its probability. Here absent classes do not count, and the logarithm divides the gradient by the Dice.

    Shape:
        - probabilities: :math:`(B, C, *)`, background first; label: :math:`(B, 1, *)`, whole numbers.
        - output: scalar, 0 at best.

    Reference:
        Wong et al., 3D Segmentation with Exponential Logarithmic Loss for Highly Unbalanced Object Sizes, MICCAI 2018,
        arXiv:1809.00076: its Dice term with an exponent of 1.
    """

    def __init__(self) -> None:
        super().__init__()
        self.dice = DiceLoss(to_onehot_y=True, batch=True, reduction="none")

    def forward(self, probabilities: Tensor, label: Tensor) -> Tensor:
        """Return the mean over the present classes."""
        dice = 1 - self.dice(probabilities, label).flatten()  # (C)
        present = torch.zeros_like(dice).scatter_(0, label.flatten().long(), 1.0)
        logarithms = torch.where(present > 0, dice, 1).clamp(min=1e-7).log()
        return -logarithms.sum() / present.sum()
