"""Losses: raw vectors in, any floating type; a scalar out, float32 or wider."""

from medssl.losses.global_positional import GlobalPositionalLoss
from medssl.losses.info_nce import InfoNCELoss
from medssl.losses.known_classes import KnownClassesLoss
from medssl.losses.local_alignment import LocalAlignmentLoss
from medssl.losses.local_region_contrast import LocalRegionContrastLoss
from medssl.losses.log_dice_ce import LogDiceCELoss
from medssl.losses.negative_cosine import NegativeCosineLoss
from medssl.losses.sup_con import SupConLoss

__all__ = [
    "GlobalPositionalLoss",
    "InfoNCELoss",
    "KnownClassesLoss",
    "LocalAlignmentLoss",
    "LocalRegionContrastLoss",
    "LogDiceCELoss",
    "NegativeCosineLoss",
    "SupConLoss",
]
