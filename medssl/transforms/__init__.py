"""Transforms that MONAI lacks; drop-in in any ``Compose``."""

from medssl.transforms.bezier_batch import RandBezierBatch
from medssl.transforms.contrastive_crop_batch import RandContrastiveCropBatch
from medssl.transforms.intensity_batch import RandIntensityBatch
from medssl.transforms.joint_elastic import RandJointElastic, RandJointElasticBatch, RandJointElasticd
from medssl.transforms.labels import KnownLabels, KnownLabelsd
from medssl.transforms.load_scan import LoadScan, LoadScand, ScanReader
from medssl.transforms.local_shuffle_batch import RandLocalShuffleBatch
from medssl.transforms.painting_batch import RandPaintingBatch
from medssl.transforms.part_slices import RandPartSlices, RandPartSlicesd
from medssl.transforms.resized_crop_batch import RandResizedCropBatch
from medssl.transforms.same_grid import SameGridd
from medssl.transforms.slices import RandSlicePair, RandSlicePaird, RandSlices, RandSlicesd
from medssl.transforms.spacing import ResampleToSpacing, ResampleToSpacingd
from medssl.transforms.spatial_batch import RandSpatialBatch
from medssl.transforms.superpixels import Superpixels, Superpixelsd
from medssl.transforms.supervoxels import Supervoxels, Supervoxelsd
from medssl.transforms.tiles_batch import RandTilesBatch
from medssl.transforms.window import Window, Windowd

__all__ = [
    "KnownLabels",
    "KnownLabelsd",
    "LoadScan",
    "LoadScand",
    "RandBezierBatch",
    "RandContrastiveCropBatch",
    "RandIntensityBatch",
    "RandJointElastic",
    "RandJointElasticBatch",
    "RandJointElasticd",
    "RandLocalShuffleBatch",
    "RandPaintingBatch",
    "RandPartSlices",
    "RandPartSlicesd",
    "RandResizedCropBatch",
    "RandSlicePair",
    "RandSlicePaird",
    "RandSlices",
    "RandSlicesd",
    "RandSpatialBatch",
    "RandTilesBatch",
    "ResampleToSpacing",
    "ResampleToSpacingd",
    "SameGridd",
    "ScanReader",
    "Superpixels",
    "Superpixelsd",
    "Supervoxels",
    "Supervoxelsd",
    "Window",
    "Windowd",
]
