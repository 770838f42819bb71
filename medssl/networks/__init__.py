"""Networks made of an encoder, a decoder and a head, and the weights that travel between them."""

from medssl.networks.heads import (
    Pointwise,
    byol_head,
    gcl_local_head,
    linear_head,
    mlp_head,
    relative_location_head,
    simsiam_head,
    simsiam_predictor,
)
from medssl.networks.imagenet import load_imagenet
from medssl.networks.linear_probe import LinearProbe
from medssl.networks.mae_decoder import MAEDecoder
from medssl.networks.memory import Bank, Queue
from medssl.networks.momentum import Momentum
from medssl.networks.resnet import ResNetEncoder, ResNetUNet
from medssl.networks.sides import check_size
from medssl.networks.two_branch import TwoBranchUNet
from medssl.networks.unet import UNet, UNetDecoder, UNetEncoder
from medssl.networks.vit import ViTEncoder, ViTUNet
from medssl.networks.weights import load_pretrained, part_state

__all__ = [
    "Bank",
    "LinearProbe",
    "MAEDecoder",
    "Momentum",
    "Pointwise",
    "Queue",
    "ResNetEncoder",
    "ResNetUNet",
    "TwoBranchUNet",
    "UNet",
    "UNetDecoder",
    "UNetEncoder",
    "ViTEncoder",
    "ViTUNet",
    "byol_head",
    "check_size",
    "gcl_local_head",
    "linear_head",
    "load_imagenet",
    "load_pretrained",
    "mlp_head",
    "part_state",
    "relative_location_head",
    "simsiam_head",
    "simsiam_predictor",
]
