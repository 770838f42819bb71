"""Which scans to annotate, and the MONAI Label app that asks for them."""

from medssl.label.embedding_map import plot_map
from medssl.label.facility_location import facility_location, outliers
from medssl.label.scan_embeddings import SliceFeatures, scan_embeddings, slice_features
from medssl.label.suggest import Pool, Suggestion, embed_pool, representative_slices, suggest, to_table
from medssl.label.uncertainty import organ_uncertainty, uncertainties

__all__ = [
    "Pool",
    "SliceFeatures",
    "Suggestion",
    "embed_pool",
    "facility_location",
    "organ_uncertainty",
    "outliers",
    "plot_map",
    "representative_slices",
    "scan_embeddings",
    "slice_features",
    "suggest",
    "to_table",
    "uncertainties",
]
