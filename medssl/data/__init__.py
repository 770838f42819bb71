"""Manifests, splits, and the draws made from them."""

from medssl.data.every_slice import EverySlice
from medssl.data.manifest import Manifest, ManifestError, load_manifest
from medssl.data.phantoms import write_phantoms
from medssl.data.prepare_store import prepare
from medssl.data.samplers import SubjectPairSampler, VolumeSampler, balance
from medssl.data.scans import find_scans
from medssl.data.seeded_dataset import SeededCacheDataset
from medssl.data.slice_numbers import SliceNumbers
from medssl.data.slice_store import StoredSlices, store_recipe
from medssl.data.splits import Split, every_label, folds, label_draw, pretrain_records, split

__all__ = [
    "EverySlice",
    "Manifest",
    "ManifestError",
    "SeededCacheDataset",
    "SliceNumbers",
    "Split",
    "StoredSlices",
    "SubjectPairSampler",
    "VolumeSampler",
    "balance",
    "every_label",
    "find_scans",
    "folds",
    "label_draw",
    "load_manifest",
    "prepare",
    "pretrain_records",
    "split",
    "store_recipe",
    "write_phantoms",
]
