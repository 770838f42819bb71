"""What a frozen encoder knows: a linear classifier of every pixel on its features."""

from typing import cast

import torch
import torch.nn.functional as F
from monai.networks.layers.factories import Conv, Norm
from torch import Tensor, nn


class LinearProbe(nn.Module):
    r"""Concatenate all levels of a frozen encoder at the finest size; learn one linear map to the classes.

    The encoder's parameters are frozen; its normalisation layers still follow the batches, so that an encoder that saw
    no data is not handicapped by the statistics it was born with.

    Args:
        encoder: returns a list of features, finest first; its ``out_channels`` are their channels.
        out_channels: number of classes, background included.
        spatial_dims: 2 or 3.

    Shape:
        - input: :math:`(B, C, *)`.
        - output: :math:`(B, \text{out\_channels}, *)`.
    """

    def __init__(self, encoder: nn.Module, out_channels: int, spatial_dims: int = 2) -> None:
        super().__init__()
        self.encoder = encoder.requires_grad_(False)
        channels = cast(list[int], encoder.out_channels)
        # Levels of unlike scale would share one learning rate badly.
        self.norm = Norm[Norm.BATCH, spatial_dims](sum(channels), affine=False)
        self.head = Conv[Conv.CONV, spatial_dims](sum(channels), out_channels, 1)

    def forward(self, image: Tensor) -> Tensor:
        """Return the logits of an image."""
        with torch.no_grad():
            features = self.encoder(image)
            mode = "bilinear" if image.dim() == 4 else "trilinear"
            maps = [F.interpolate(level, image.shape[2:], mode=mode, align_corners=False) for level in features]
        logits: Tensor = self.head(self.norm(torch.cat(maps, dim=1)))
        return logits
