"""A twin that follows a network slowly."""

import copy

import torch
from torch import nn
from torch.optim.swa_utils import get_ema_multi_avg_fn


class Momentum(nn.Module):
    r"""A copy of a module whose parameters are a moving average of the module's own.

    .. math:: \theta_k \leftarrow m\, \theta_k + (1 - m)\, \theta_q

    All parameters move in one fused step. The twin gets no gradient, and its normalisation layers keep statistics of
    their own.

    Args:
        module: to follow; only copied, not held.
        momentum: m, .999 in MoCo.

    Reference:
        He et al., Momentum Contrast for Unsupervised Visual Representation Learning, CVPR 2020, arXiv:1911.05722,
        eq. 2.
    """

    def __init__(self, module: nn.Module, momentum: float = 0.999) -> None:
        super().__init__()
        self.twin = copy.deepcopy(module).requires_grad_(False)
        self.average = get_ema_multi_avg_fn(momentum)

    @torch.no_grad()
    def follow(self, module: nn.Module, momentum: float | None = None) -> None:
        """Move towards the module's present parameters by one step, of another momentum where it is given."""
        average = self.average if momentum is None else get_ema_multi_avg_fn(momentum)
        average(list(self.twin.parameters()), list(module.parameters()), 0)
