"""Transforms."""

from medssl.transforms.spatial_batch import RandSpatialBatch

