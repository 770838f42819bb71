"""Learn from labels in which not every organ was contoured."""

import torch
from torch import Tensor, nn


class KnownClassesLoss(nn.Module):
    r"""Let the probability of organs that were not contoured join the background, then ask a loss of probabilities.

    .. math:: p'_0 = p_0 + \sum_{c\ \text{unknown}} p_c, \qquad p'_c = 0\ \text{for unknown}\ c

    Where an organ was not contoured its voxels are labelled background; calling them so, or by the organ's name, is
    then the same: the loss does not change. An image with all classes known keeps its probabilities as they are.

    Args:
        loss: of probabilities :math:`(B, C, *)` and labels :math:`(B, 1, *)`, such as MONAI's ``DiceLoss`` with
            ``to_onehot_y``, but without ``softmax``.

    Shape:
        - logits: :math:`(B, C, *)`, background first.
        - target: ``label`` :math:`(B, 1, *)`, and ``known`` :math:`(B, C)` bool, as
          :py:class:`medssl.engine.PrepareKnownClasses` puts them together.
        - output: what the loss returns.

    Raises:
        ValueError: when called, if ``known`` is not (B, C).

    Reference:
        The marginal loss of Fang, Yan, Multi-organ Segmentation over Partially Labeled Datasets, TMI 2020, and Shi et
        al., Marginal Loss and Exclusion Loss for Partially Supervised Multi-organ Segmentation, MedIA 2021.
    """

    def __init__(self, loss: nn.Module) -> None:
        super().__init__()
        self.loss = loss

    def forward(self, logits: Tensor, target: dict[str, Tensor]) -> Tensor:
        """Return the loss of the known classes."""
        known = target["known"]
        if known.shape != logits.shape[:2]:
            raise ValueError(f"known must be {tuple(logits.shape[:2])}, a row per image, got {tuple(known.shape)}.")
        result: Tensor = self.loss(join_background(logits.softmax(dim=1), known), target["label"])
        return result


def join_background(probabilities: Tensor, known: Tensor) -> Tensor:
    """Give the background :math:`(B, C, *)` what the classes not ``known`` :math:`(B, C)` have."""
    known = known.view(*known.shape, *[1] * (probabilities.ndim - 2))  # (B, C, 1, ...)
    foreground = probabilities[:, 1:]
    # Summed, not 1 less the known: that is 0 where a known organ leads, and its gradient is lost.
    background = probabilities[:, :1] + (foreground * ~known[:, 1:]).sum(dim=1, keepdim=True)
    return torch.cat([background, foreground * known[:, 1:]], dim=1)
