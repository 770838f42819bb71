"""Every slice of a data set has a number, which memories of all slices go by."""

from collections.abc import Sequence
from itertools import accumulate

import torch
from torch import Tensor


class SliceNumbers:
    """Number the slices of all volumes through.

    Args:
        cases: names of the volumes, ``case_id`` of their records.
        depths: their numbers of slices.
    """

    def __init__(self, cases: Sequence[str], depths: Sequence[int]) -> None:
        if len(set(cases)) < len(cases):
            raise ValueError("every volume needs a case_id of its own for its slices to be numbered.")
        starts = [0, *accumulate(depths)]
        self.count = starts.pop()
        self.starts = dict(zip(cases, starts, strict=True))

    def __call__(self, cases: Sequence[str], index: Tensor) -> Tensor:
        """Return the numbers :math:`(n)` of slices ``index`` :math:`(n)` of the named volumes."""
        return torch.tensor([self.starts[case] for case in cases]) + index
