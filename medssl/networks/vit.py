"""A vision transformer as the encoder of a segmentation network."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from monai.networks.blocks import UnetrBasicBlock, UnetrPrUpBlock, UnetrUpBlock
from torch import Tensor, nn

from medssl.networks.sides import check_sides

STAGES = 4  # of the encoder, whose features the decoder takes
REFERENCE = 14  # patches along an axis that positions are counted in


class ViTEncoder(nn.Module):
    r"""ViT-B/16 of slices, with positions of sines and cosines that fit any size.

    Positions are those of MAE where the image has 14 patches along an axis, as in the paper, and are stretched over the
    image where it has more or fewer: weights learnt at one size are used at another.

    Args:
        in_channels: channels of the image.
        patch_size: pixels of a patch's side.
        hidden_size: length of a token, a multiple of 4.
        mlp_dim: width of a layer's hidden features.
        num_layers: transformer layers, a multiple of 4; attention has a head for each 64 features.
        dropout: probability, in every layer.

    Shape:
        - input: :math:`(B, C, H, W)`, both sides multiples of ``patch_size``.
        - output: list of five tensors: the image itself, then the tokens as maps
          :math:`(B, \text{hidden\_size}, H/p, W/p)` after each quarter of the layers.

    Reference:
        Dosovitskiy et al., An Image is Worth 16x16 Words, ICLR 2021, arXiv:2010.11929; He et al., Masked Autoencoders
        Are Scalable Vision Learners, CVPR 2022, arXiv:2111.06377.
    """

    spatial_dims = 2

    def __init__(
        self,
        in_channels: int = 1,
        patch_size: int = 16,
        hidden_size: int = 768,
        mlp_dim: int = 3072,
        num_layers: int = 12,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if num_layers % STAGES or hidden_size % 4:
            raise ValueError(
                f"num_layers and hidden_size must be multiples of 4, got {num_layers} and {hidden_size}; ViT-B has 12 "
                "and 768."
            )
        self.patch_size = self.multiple = patch_size
        self.out_channels = [in_channels] + [hidden_size] * STAGES
        self.patches = nn.Conv2d(in_channels, hidden_size, patch_size, patch_size)
        self.class_token = nn.Parameter(torch.zeros(1, 1, hidden_size))
        self.layers = transformer_layers(num_layers, hidden_size, mlp_dim, max(1, hidden_size // 64), dropout)
        self.norm = nn.LayerNorm(hidden_size, eps=1e-6)
        initialise(self)
        nn.init.normal_(self.class_token, std=0.02)

    def forward(self, image: Tensor) -> list[Tensor]:
        """Return the image and the maps of every stage, finest first."""
        grid = [side // self.patch_size for side in image.shape[2:]]
        return [image, *(tokens[:, 1:].mT.unflatten(2, grid) for tokens in self.encode(self.embed(image)))]

    def embed(self, image: Tensor) -> Tensor:
        """Return the patches of an image as tokens that know their place :math:`(B, L, D)`, row by row."""
        check_sides(list(image.shape[2:]), self.multiple)
        maps = self.patches(image)  # (B, D, h, w)
        return maps.flatten(2).mT + positions(maps.shape[2:], maps.shape[1], maps.device)

    def encode(self, tokens: Tensor) -> list[Tensor]:
        """Return what has become of tokens :math:`(B, K, D)`, and of the class token before them, in every stage."""
        tokens = torch.cat([self.class_token.expand(len(tokens), -1, -1), tokens], dim=1)
        stages = []
        for number, layer in enumerate(self.layers, start=1):
            tokens = layer(tokens)
            if number % (len(self.layers) // STAGES) == 0:
                stages.append(tokens)
        return [*stages[:-1], self.norm(stages[-1])]


class ViTDecoder(nn.Module):
    r"""UNETR's decoder, of MONAI's blocks: each stage's map is brought to a size of its own and joined on the way up.

    Args:
        encoder_channels: of the encoder's features: the image's, then those of its four stages.
        width: channels at the image's size; 64 in the LRC paper's branches.

    Shape:
        - input: list of tensors as the encoder returns them, its patches of 16 pixels.
        - output: :math:`(B, \text{width}, H, W)`.

    Reference:
        Hatamizadeh et al., UNETR, WACV 2022, arXiv:2103.10504.
    """

    def __init__(self, encoder_channels: Sequence[int], width: int = 64) -> None:
        super().__init__()
        image, *hidden = encoder_channels
        plain = {"spatial_dims": 2, "kernel_size": 3, "norm_name": "instance", "res_block": True}
        up = {**plain, "upsample_kernel_size": 2}
        self.skip_image = UnetrBasicBlock(in_channels=image, out_channels=width, stride=1, **plain)
        self.skips = nn.ModuleList(
            UnetrPrUpBlock(
                in_channels=channels, out_channels=width << level, num_layer=3 - level, stride=1, conv_block=True, **up
            )
            for level, channels in enumerate(hidden[:-1], start=1)
        )
        widths = [hidden[-1], width << 3, width << 2, width << 1, width]
        self.ups = nn.ModuleList(
            UnetrUpBlock(in_channels=coarse, out_channels=fine, **up) for coarse, fine in pairwise(widths)
        )
        self.out_channels = width

    def forward(self, features: list[Tensor]) -> Tensor:
        """Decode the encoder's features into one map."""
        image, *stages, x = features
        skips = [self.skip_image(image), *(skip(stage) for skip, stage in zip(self.skips, stages, strict=True))]
        for up, skip in zip(self.ups, reversed(skips), strict=True):
            x = up(x, skip)
        return x


class ViTUNet(nn.Module):
    r"""A vision transformer, UNETR's decoder and a 1x1 head: one logit per class.

    Its parts are named ``encoder``, ``decoder`` and ``head``; so are the tensors of a checkpoint.

    Args:
        out_channels: number of classes, background included; None for no head: the decoder's features come out.
        encoder: ViT-B/16 where none is given.
        decoder_width: channels of the decoder's last map.

    Shape:
        - input: :math:`(B, C, H, W)`, both sides multiples of 16.
        - output: :math:`(B, \text{out\_channels}, H, W)`.
    """

    def __init__(self, out_channels: int | None, encoder: ViTEncoder | None = None, decoder_width: int = 64) -> None:
        super().__init__()
        self.encoder = ViTEncoder() if encoder is None else encoder
        if self.encoder.patch_size != 16:
            raise ValueError(
                f"the decoder goes up four times, from patches of 16 pixels, got {self.encoder.patch_size}."
            )
        self.decoder = ViTDecoder(self.encoder.out_channels, decoder_width)
        self.head: nn.Module = nn.Identity()
        if out_channels is not None:
            self.head = nn.Conv2d(decoder_width, out_channels, 1)

    def forward(self, image: Tensor) -> Tensor:
        """Return the logits of an image."""
        logits: Tensor = self.head(self.decoder(self.encoder(image)))
        return logits


def transformer_layers(
    num_layers: int, hidden_size: int, mlp_dim: int, num_heads: int, dropout: float = 0.0
) -> nn.ModuleList:
    """Return the layers of a vision transformer: normalised first, GELU."""
    return nn.ModuleList(
        nn.TransformerEncoderLayer(
            hidden_size, num_heads, mlp_dim, dropout, "gelu", layer_norm_eps=1e-6, batch_first=True, norm_first=True
        )
        for _ in range(num_layers)
    )


def positions(grid: Sequence[int], features: int, device: torch.device) -> Tensor:
    """Return sines and cosines of the places of a grid :math:`(L, D)`, half of the features for each axis.

    Place i of n is :math:`14 (i + .5) / n - .5`, so that any grid covers the same range.
    """
    quarter = features // 4
    frequencies = 10_000.0 ** -(torch.arange(quarter, device=device, dtype=torch.float32) / quarter)
    axes = []
    for count in grid:
        place = (torch.arange(count, device=device) + 0.5) * REFERENCE / count - 0.5
        angles = place[:, None] * frequencies
        axes.append(torch.cat([angles.sin(), angles.cos()], dim=1))  # (count, D / 2)
    rows, columns = axes
    rows = rows[:, None].expand(-1, len(columns), -1)
    return torch.cat([rows, columns.expand(len(rows), -1, -1)], dim=2).flatten(0, 1)


def initialise(module: nn.Module) -> None:
    """Xavier initialisation of every linear map below ``module``, patches included, biases zero."""
    for child in module.modules():
        if isinstance(child, nn.Linear | nn.Conv2d):
            nn.init.xavier_uniform_(child.weight.data.flatten(1))
            if child.bias is not None:
                nn.init.zeros_(child.bias)
        elif isinstance(child, nn.MultiheadAttention):
            nn.init.xavier_uniform_(child.in_proj_weight)
