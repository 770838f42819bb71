"""Pre-training methods: a batch of views in, the loss and its terms out."""

from medssl.methods.byol import BYOL
from medssl.methods.contrastive_crop import ContrastiveCrop
from medssl.methods.densecl import DenseCL
from medssl.methods.gcl import GCL
from medssl.methods.gcl_global import GCLGlobal
from medssl.methods.gcl_local import GCLLocal
from medssl.methods.lrc import LRC
from medssl.methods.mae import MAE
from medssl.methods.moco import MoCo
from medssl.methods.models_genesis import ModelsGenesis
from medssl.methods.pcl import PCL
from medssl.methods.pirl import PIRL
from medssl.methods.relative_location import RelativeLocation
from medssl.methods.rotation import Rotation
from medssl.methods.sal import SAL
from medssl.methods.simclr import SimCLR
from medssl.methods.simsiam import SimSiam

__all__ = [
    "BYOL",
    "GCL",
    "LRC",
    "MAE",
    "PCL",
    "PIRL",
    "SAL",
    "ContrastiveCrop",
    "DenseCL",
    "GCLGlobal",
    "GCLLocal",
    "MoCo",
    "ModelsGenesis",
    "RelativeLocation",
    "Rotation",
    "SimCLR",
    "SimSiam",
]
