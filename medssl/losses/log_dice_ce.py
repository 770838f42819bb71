"""The logarithm of Dice, over the classes that a batch holds, and cross-entropy."""

import torch
import torch.nn.functional as F
from monai.losses import DiceLoss
from torch import Tensor, nn


class LogDiceCELoss(nn.Module):
    r"""Average :math:`-\ln \text{Dice}` of a batch over the classes that its labels hold, and add cross-entropy.

    .. math:: \mathcal{L} = \operatorname{mean}_{c : \sum y_c > 0}
        -\ln \frac{2 \sum p_c y_c}{\sum p_c + \sum y_c} + \operatorname{mean}_i -\ln p_{y_i, i}

    with sums over all pixels of the batch; Dice is MONAI's. Two things about the Dice loss itself give a small organ up
    for good: for a class without pixels it is 1 as long as any probability is left, and the gradient of a class's
    logits vanishes with its probability. Here absent classes do not count, and the logarithm divides the gradient by
    the Dice. What it leaves is the opposite mistake: of an organ that has flooded its surroundings with certainty
    neither Dice nor its logarithm has a gradient left; cross-entropy has.

    Shape:
        - probabilities: :math:`(B, C, *)`, background first; label: :math:`(B, 1, *)`, whole numbers.
        - output: scalar, 0 at best.

    Reference:
        Wong et al., 3D Segmentation with Exponential Logarithmic Loss for Highly Unbalanced Object Sizes, MICCAI 2018,
        arXiv:1809.00076, with exponents and weights of 1.
    """

    def __init__(self) -> None:
        super().__init__()
        self.dice = DiceLoss(to_onehot_y=True, batch=True, reduction="none")

    def forward(self, probabilities: Tensor, label: Tensor) -> Tensor:
        """Return the sum of the two terms."""
        numbers = label.long()
        dice = 1 - self.dice(probabilities, label).flatten()  # (C)
        present = torch.zeros_like(dice).scatter_(0, numbers.flatten(), 1.0)
        logarithms = torch.where(present > 0, dice, 1).clamp(min=1e-7).log()
        tiny = torch.finfo(probabilities.dtype).tiny
        return F.nll_loss(probabilities.clamp(min=tiny).log(), numbers[:, 0]) - logarithms.sum() / present.sum()
