"""Which scans to annotate, and the MONAI Label app that asks for them."""

from medssl.label.confirmation import confirm, fine_tunings
from medssl.label.embedding_map import plot_map
from medssl.label.facility_location import facility_location, outliers
from medssl.label.scan_embeddings import SliceFeatures, scan_embeddings, slice_features
from medssl.label.simulation import LabelledScan, compare_orders, plot_simulation, read_labelled, simulate
from medssl.label.suggestions import Pool, Suggestion, embed_pool, representative_slices, suggest, to_table
from medssl.label.uncertainty import organ_uncertainty, uncertainties
from medssl.label.voxel_classifier import Moments, VoxelClassifier, VoxelSample, sample_voxels, sampled_dice

__all__ = [
    "LabelledScan",
    "Moments",
    "Pool",
    "SliceFeatures",
    "Suggestion",
    "VoxelClassifier",
    "VoxelSample",
    "compare_orders",
    "confirm",
    "embed_pool",
    "facility_location",
    "fine_tunings",
    "organ_uncertainty",
    "outliers",
    "plot_map",
    "plot_simulation",
    "read_labelled",
    "representative_slices",
    "sample_voxels",
    "sampled_dice",
    "scan_embeddings",
    "simulate",
    "slice_features",
    "suggest",
    "to_table",
    "uncertainties",
]
