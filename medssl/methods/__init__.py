"""Pre-training methods: a batch of views in, the loss and its terms out."""

from medssl.methods.lrc import LRC
from medssl.methods.moco import MoCo
from medssl.methods.pcl import PCL
from medssl.methods.sal import SAL

__all__ = ["LRC", "PCL", "SAL", "MoCo"]
