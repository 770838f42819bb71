"""Manifests, splits and the draws made from them."""

from medssl.data.samplers import SubjectPairSampler, VolumeSampler
from medssl.data.seeded_dataset import SeededCacheDataset

__all__ = ["SeededCacheDataset", "SubjectPairSampler", "VolumeSampler"]
