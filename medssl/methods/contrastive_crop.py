"""Contrastive crops: a method of two views, whose crops lie where its encoder sees something."""

from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate


class ContrastiveCrop(nn.Module):
    """Remember a box for every slice of a data set, around which the crops of another method are drawn.

    Where the encoder's last features, summed over their channels and brought to [0, 1] for each slice, exceed a
    threshold, there is something to see; the box spans those rows and columns. Boxes are a buffer: they go into a
    checkpoint with the method and come back with it. Until they are found they are empty.

    Args:
        method: trained by two views, such as :py:class:`medssl.methods.SimCLR`; has an ``encoder``.
        num_slices: of the data set.
        threshold: .1 in the paper.

    Shape:
        - batch and output: those of the method.

    Raises:
        ValueError: if the threshold does not lie in [0, 1), or there is no slice.

    Reference:
        Peng et al., Crafting Better Contrastive Views for Siamese Representation Learning, CVPR 2022, arXiv:2202.03278.
    """

    boxes: Tensor

    def __init__(self, method: nn.Module, num_slices: int, threshold: float = 0.1) -> None:
        super().__init__()
        if num_slices < 1 or not 0 <= threshold < 1:
            raise ValueError(
                f"num_slices must be at least 1 and threshold lie in [0, 1), got {num_slices} and {threshold}; the "
                "paper's threshold is 0.1."
            )
        self.method, self.threshold = method, threshold
        self.register_buffer("boxes", torch.zeros(num_slices, 4))

    @property
    def encoder(self) -> nn.Module:
        """The method's."""
        return cast(nn.Module, self.method.encoder)

    def forward(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        """Return what the method returns."""
        return cast(dict[str, Tensor], self.method(batch))

    @torch.no_grad()
    def locate(self, images: Tensor, samples: Tensor) -> None:
        """Find the boxes of some slices :math:`(n, C, H, W)` with the numbers ``samples`` :math:`(n)`."""
        heat = self.encoder(images)[-1].float().sum(dim=1)  # (n, h, w)
        low, high = heat.amin(dim=(1, 2), keepdim=True), heat.amax(dim=(1, 2), keepdim=True)
        heat = (heat - low) / (high - low).clamp(min=1e-12)  # of a constant map 0, not NaN
        heat = interpolate(heat[:, None], images.shape[2:], mode="bilinear")[:, 0]
        seen = heat > self.threshold  # (n, H, W)
        edges = [ends(seen.any(dim=axis)) for axis in (2, 1)]  # of rows, of columns
        self.boxes[samples] = torch.stack([first for first, _ in edges] + [last for _, last in edges], dim=1)


def ends(marked: Tensor) -> tuple[Tensor, Tensor]:
    """Return where the marked run of each row :math:`(n, L)` begins and ends, in parts of L; all where none is."""
    length = marked.shape[1]
    marked = marked | ~marked.any(dim=1, keepdim=True)
    first = marked.int().argmax(dim=1)
    last = length - marked.flip(1).int().argmax(dim=1)
    return first / length, last / length
