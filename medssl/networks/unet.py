"""The U-Net of the PCL reference: an encoder that pre-training can take by itself, a decoder, a head."""

from collections.abc import Sequence

import torch
from monai.networks.layers.factories import Conv, Pool
from monai.networks.nets.basic_unet import TwoConv
from torch import Tensor, nn

from medssl.networks.sides import check_sides

SLOPE = 1e-2  # of the leaky ReLU; He initialisation is told the same


class UNetEncoder(nn.Module):
    r"""Five levels of two convolutions, max-pooling between them.

    The levels carry batch normalisation and leaky ReLU, the deepest one plain ReLU and no normalisation. So does the
    PCL reference (Zeng et al. 2021, supplement). At small widths such a centre gives all images nearly one pooled
    embedding and contrastive pre-training does not get off the ground: ``centre_norm`` normalises it like the rest.

    Args:
        in_channels: channels of the image.
        width: channels of the first level, doubled at each of the four that follow; 48 for ACDC, 32 for CHD.
        spatial_dims: 2 for slices, 3 for volumes.
        centre_norm: batch normalisation in the deepest level as well.
        dropout: probability, after every convolution.

    Shape:
        - input: :math:`(B, C, *)`, every side a multiple of 16.
        - output: list of five tensors, finest first: :math:`(B, 2^l \text{width}, */2^l)` for :math:`l = 0 \dots 4`.

    Raises:
        ValueError: if a side is no multiple of 16.
    """

    def __init__(
        self,
        in_channels: int = 1,
        width: int = 48,
        spatial_dims: int = 2,
        centre_norm: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.spatial_dims = spatial_dims
        self.multiple = 16
        self.out_channels = [width * 2**level for level in range(5)]
        leaky = ("leakyrelu", {"negative_slope": SLOPE, "inplace": True})
        channels = [in_channels, *self.out_channels]
        self.levels = nn.ModuleList(
            TwoConv(spatial_dims, channels[i], channels[i + 1], leaky, "batch", True, dropout) for i in range(4)
        )
        self.centre = TwoConv(
            spatial_dims, *channels[4:6], ("relu", {"inplace": True}), "batch" if centre_norm else None, True, dropout
        )
        self.pool = Pool[Pool.MAX, spatial_dims](2)
        initialise(self)

    def forward(self, image: Tensor) -> list[Tensor]:
        """Return the features of every level, finest first."""
        check_sides(list(image.shape[2:]), self.multiple)
        features: list[Tensor] = []
        for level in self.levels:
            image = level(image)
            features.append(image)
            image = self.pool(image)
        features.append(self.centre(image))
        return features


class UNetDecoder(nn.Module):
    r"""Transposed convolutions back to the finest level, each joined with the encoder's features of its size.

    Args:
        channels: channels of the encoder's features, finest first.
        spatial_dims: 2 or 3.
        dropout: probability, after every convolution.

    Shape:
        - input: list of tensors as the encoder returns them; ``finest``, the level to stop at, 0 for the image's size.
        - output: :math:`(B, \text{channels}_\text{finest}, *)` at the size of that level's features.
    """

    def __init__(self, channels: Sequence[int], spatial_dims: int = 2, dropout: float = 0.0) -> None:
        super().__init__()
        self.out_channels = channels[0]
        leaky = ("leakyrelu", {"negative_slope": SLOPE, "inplace": True})
        pairs = list(zip(channels[-2::-1], channels[:0:-1], strict=True))  # (fine, coarse), coarsest pair first
        up = Conv[Conv.CONVTRANS, spatial_dims]
        self.ups = nn.ModuleList(up(coarse, fine, 2, stride=2) for fine, coarse in pairs)
        self.levels = nn.ModuleList(
            TwoConv(spatial_dims, 2 * fine, fine, leaky, "batch", True, dropout) for fine, _ in pairs
        )
        initialise(self)

    def forward(self, features: list[Tensor], finest: int = 0) -> Tensor:
        """Decode the encoder's features, finest first, into one map."""
        skip = len(features) - 1
        x = features[skip]
        for up, level in zip(self.ups, self.levels):  # noqa: B905 - TorchScript knows no strict zip
            if skip > finest:
                skip -= 1
                x = level(torch.cat([features[skip], up(x)], dim=1))
        return x


class UNet(nn.Module):
    r"""Encoder, decoder with skip connections, and a 1x1 head without bias: one logit per class.

    Its parts are named ``encoder``, ``decoder`` and ``head``; so are the tensors of a checkpoint.

    Args:
        out_channels: number of classes, background included; None for no head: the decoder's features come out.
        in_channels, width, spatial_dims, centre_norm, dropout: see :py:class:`UNetEncoder`. With the defaults and four
            classes there are 17,462,016 parameters, the number of the PCL reference for ACDC; with width 32 and eight
            classes 7,763,584, its number for CHD.

    Shape:
        - input: :math:`(B, C, *)`, every side a multiple of 16.
        - output: :math:`(B, \text{out\_channels}, *)`.
    """

    def __init__(
        self,
        out_channels: int | None,
        in_channels: int = 1,
        width: int = 48,
        spatial_dims: int = 2,
        centre_norm: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.encoder = UNetEncoder(in_channels, width, spatial_dims, centre_norm, dropout)
        self.decoder = UNetDecoder(self.encoder.out_channels, spatial_dims, dropout)
        self.head: nn.Module = nn.Identity()
        if out_channels is not None:
            self.head = Conv[Conv.CONV, spatial_dims](self.decoder.out_channels, out_channels, 1, bias=False)
            initialise(self.head)

    def forward(self, image: Tensor) -> Tensor:
        """Return the logits of an image."""
        logits: Tensor = self.head(self.decoder(self.encoder(image)))
        return logits


def initialise(module: nn.Module) -> None:
    """He initialisation of every convolution below ``module``, biases zero."""
    for child in module.modules():
        if isinstance(child, nn.Conv2d | nn.Conv3d | nn.ConvTranspose2d | nn.ConvTranspose3d):
            nn.init.kaiming_normal_(child.weight, a=SLOPE)
            if child.bias is not None:
                nn.init.zeros_(child.bias)
