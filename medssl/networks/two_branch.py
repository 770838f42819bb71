"""Two pre-trained networks joined: one that knows the image, one that knows its regions."""

import torch
from monai.networks.layers.factories import Conv
from torch import Tensor, nn

from medssl.networks.resnet import ResNetUNet
from medssl.networks.unet import UNet
from medssl.networks.vit import ViTUNet

Branch = UNet | ResNetUNet | ViTUNet


class TwoBranchUNet(nn.Module):
    r"""Concatenate the last maps of two networks without heads; a 1x1 convolution gives the logits (LRC, section 2.3).

    Each branch takes its own checkpoint: ``load_pretrained(network.global_branch, path)``. A branch without one starts
    from random weights.

    Args:
        global_branch: network without a head, its encoder pre-trained by a global method; ResNet-50 in the paper.
        local_branch: network whose encoder and decoder LRC pre-trained.
        out_channels: number of classes, background included.

    Shape:
        - input: :math:`(B, C, *)`, a size that both branches take.
        - output: :math:`(B, \text{out\_channels}, *)`.

    Raises:
        ValueError: if the branches give maps of different sizes.

    Reference:
        Yan et al., Localized Region Contrast for Enhancing Self-Supervised Learning in Medical Image Segmentation,
        arXiv:2304.03406.
    """

    def __init__(self, global_branch: Branch, local_branch: Branch, out_channels: int) -> None:
        super().__init__()
        for branch in (global_branch, local_branch):
            if not isinstance(branch.head, nn.Identity):
                raise ValueError(
                    f"a branch must have no head, got a {type(branch).__name__} with one: out_channels=None."
                )
        self.global_branch, self.local_branch = global_branch, local_branch
        channels = global_branch.decoder.out_channels + local_branch.decoder.out_channels
        self.head = Conv[Conv.CONV, local_branch.encoder.spatial_dims](channels, out_channels, 1)

    def forward(self, image: Tensor) -> Tensor:
        """Return the logits of an image."""
        maps = torch.cat([self.global_branch(image), self.local_branch(image)], dim=1)
        logits: Tensor = self.head(maps)
        return logits
