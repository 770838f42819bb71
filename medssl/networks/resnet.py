"""ResNet-50 as the encoder of a segmentation network."""

from collections.abc import Sequence

from monai.networks.layers.factories import Conv
from monai.networks.nets import flexible_unet
from monai.networks.nets.resnet import ResNetFeatures
from torch import Tensor, nn

from medssl.networks.sides import check_sides


class ResNetEncoder(ResNetFeatures):
    r"""ResNet-50 with the standard stem: a 7x7 convolution of stride 2, then max-pooling.

    MONAI's plain builders default to stride 1 there, four times the work and not the network of the papers.

    Args:
        in_channels: channels of the image.
        spatial_dims: 2 for slices, 3 for volumes.

    Shape:
        - input: :math:`(B, C, *)`, every side a multiple of 32.
        - output: list of five tensors, finest first: :math:`(B, C_l, */2^{l+1})`, 64, 256, 512, 1024 and 2048 channels.

    Raises:
        ValueError: if a side is no multiple of 32.

    Reference:
        He et al., Deep Residual Learning for Image Recognition, CVPR 2016, arXiv:1512.03385.
    """

    def __init__(self, in_channels: int = 1, spatial_dims: int = 2) -> None:
        super().__init__("resnet50", pretrained=False, spatial_dims=spatial_dims, in_channels=in_channels)
        self.spatial_dims = spatial_dims
        self.multiple = 32
        self.out_channels = [64, 256, 512, 1024, 2048]

    def forward(self, image: Tensor) -> list[Tensor]:
        """Return the features of every level, finest first."""
        check_sides(list(image.shape[2:]), self.multiple)
        features: list[Tensor] = super().forward(image)
        return features


class ResNetDecoder(flexible_unet.UNetDecoder):
    r"""MONAI's decoder of its ``FlexibleUNet``: five steps up, the first four joined with the encoder's features.

    Args:
        encoder_channels: of the encoder's features, finest first.
        decoder_channels: of the five levels, coarsest first.
        spatial_dims: 2 or 3.
        dropout: probability, after every convolution.

    Shape:
        - input: list of tensors as the encoder returns them.
        - output: :math:`(B, C, *)` at the image's size, C the last of ``decoder_channels``.
    """

    def __init__(
        self,
        encoder_channels: Sequence[int],
        decoder_channels: Sequence[int] = (256, 128, 64, 64, 64),
        spatial_dims: int = 2,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(
            spatial_dims=spatial_dims,
            encoder_channels=[0, *encoder_channels],  # the image itself is no skip connection
            decoder_channels=decoder_channels,
            act=("relu", {"inplace": True}),
            norm="batch",
            dropout=dropout,
            bias=False,
            upsample="nontrainable",
            pre_conv="default",
            interp_mode="nearest",
            align_corners=None,
            is_pad=False,
        )
        self.out_channels = decoder_channels[-1]


class ResNetUNet(nn.Module):
    r"""ResNet-50, a decoder with skip connections, and a 1x1 head: one logit per class.

    Its parts are named ``encoder``, ``decoder`` and ``head``; so are the tensors of a checkpoint.

    Args:
        out_channels: number of classes, background included; None for no head: the decoder's features come out.
        in_channels, spatial_dims: see :py:class:`ResNetEncoder`.
        decoder_channels, dropout: see :py:class:`ResNetDecoder`.

    Shape:
        - input: :math:`(B, C, *)`, every side a multiple of 32.
        - output: :math:`(B, \text{out\_channels}, *)`.
    """

    def __init__(
        self,
        out_channels: int | None,
        in_channels: int = 1,
        spatial_dims: int = 2,
        decoder_channels: Sequence[int] = (256, 128, 64, 64, 64),
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.encoder = ResNetEncoder(in_channels, spatial_dims)
        self.decoder = ResNetDecoder(self.encoder.out_channels, decoder_channels, spatial_dims, dropout)
        self.head: nn.Module = nn.Identity()
        if out_channels is not None:
            self.head = Conv[Conv.CONV, spatial_dims](self.decoder.out_channels, out_channels, 1)

    def forward(self, image: Tensor) -> Tensor:
        """Return the logits of an image."""
        logits: Tensor = self.head(self.decoder(self.encoder(image)))
        return logits
