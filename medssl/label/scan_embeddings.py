"""What a pre-trained encoder makes of whole scans, by which they are compared."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote
from zipfile import BadZipFile

import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import ResizeWithPadOrCrop
from nibabel.affines import apply_affine
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool1d, normalize
from tqdm.auto import tqdm

from medssl.atomic import replace
from medssl.data import store_recipe
from medssl.data.slice_store import store_transform
from medssl.engine import trained_network
from medssl.methods.embed import pool
from medssl.transforms.spacing import voxel_axis

Array = np.ndarray[Any, np.dtype[Any]]
LAYOUT = 1  # of a scan's file and of what is put into it
BATCH = 16  # slices at a time


@dataclass(frozen=True)
class SliceFeatures:
    """What an encoder makes of the slices of a scan.

    Attributes:
        features: (V, D), the deepest level of the encoder averaged over each slice.
        numbers: (V), the slice of the scan's file that each one lies nearest to, counted from 0.
    """

    features: Array
    numbers: Array


def slice_features(
    checkpoint: str | Path, records: Sequence[Mapping[str, Any]], folder: str | Path
) -> Iterator[SliceFeatures]:
    """Yield the features of all slices of scans, each scan embedded once.

    Args:
        checkpoint: of the pretrain or the finetune bundle, of slices.
        records: of a manifest.
        folder: for a file per scan; a scan is embedded again where it or the weights have changed.

    Raises:
        FileNotFoundError: if there are no weights or no receipt beside them.
        ValueError: if they are of another network than a U-Net of slices.
        medssl.readers.ScanError: if a scan cannot be read.
    """
    network, receipt = trained_network(checkpoint)
    weights = hashlib.sha256(Path(checkpoint).read_bytes()).hexdigest()
    load = store_transform(store_recipe(receipt["spacing"], receipt["slice_axis"], receipt["window"]))
    fit = ResizeWithPadOrCrop([-1, *receipt["image_size"]])
    for record in tqdm(records, desc="embedding", unit="scan"):
        file = file_of(folder, record["case_id"])
        stamp = stamp_of(record, weights)
        known = read(file, stamp)
        if known is None:
            volume = load(dict(record))["image"]
            numbers = file_slices(volume, receipt["slice_axis"])
            known = SliceFeatures(embed_slices(network.encoder, torch.as_tensor(fit(volume)).movedim(1, 0)), numbers)
            write(file, stamp, known)
        yield known


class KeptFeatures(Sequence[SliceFeatures]):
    """The features of scans as they lie on disk, read when they are asked for.

    Args:
        folder: that :py:func:`slice_features` wrote to.
        cases: names of the scans.
    """

    def __init__(self, folder: str | Path, cases: Sequence[str]) -> None:
        self.folder, self.cases = folder, cases

    def __len__(self) -> int:
        return len(self.cases)

    def __getitem__(self, place: Any) -> Any:
        """Return the features of one scan."""
        with (
            file_of(self.folder, self.cases[place]).open("rb") as stream,
            np.load(stream, allow_pickle=False) as stored,
        ):
            return SliceFeatures(stored["features"], stored["numbers"])


def file_of(folder: str | Path, case: str) -> Path:
    """Return the file of a scan's features."""
    return Path(folder) / (quote(case, safe="") + ".npz")


def stamp_of(record: Mapping[str, Any], weights: str) -> str:
    """Return what the features of a scan depend on: its file, by size and time, and the weights' digest."""
    path = Path(record["image"])
    parts = sorted(path.iterdir()) if path.is_dir() else [path]  # a DICOM series is a folder
    states = [[part.stat().st_size, part.stat().st_mtime_ns] for part in parts]
    return json.dumps([LAYOUT, weights, str(path), record.get("frame"), states])


def read(file: Path, stamp: str) -> SliceFeatures | None:
    """Return features as they were written, None where there are none of this stamp."""
    try:
        with file.open("rb") as stream, np.load(stream, allow_pickle=False) as stored:
            return SliceFeatures(stored["features"], stored["numbers"]) if str(stored["stamp"]) == stamp else None
    except (OSError, ValueError, KeyError, BadZipFile):  # not written, or damaged: to be embedded
        return None


def write(file: Path, stamp: str, known: SliceFeatures) -> None:
    """Write features; a reader never sees half of them."""

    def save(part: Path) -> None:
        with part.open("wb") as stream:
            np.savez(stream, stamp=np.array(stamp), features=known.features, numbers=known.numbers)

    replace(file, save)


@torch.no_grad()
def embed_slices(encoder: nn.Module, slices: Tensor) -> Array:
    """Return the pooled features :math:`(V, D)` of slices :math:`(V, 1, H, W)`."""
    encoder.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # a CPU convolves faster so
    found: Array = torch.cat([pool(encoder(batch)) for batch in slices.split(BATCH)]).numpy()
    return found


def file_slices(volume: MetaTensor, slice_axis: str) -> Array:
    """Return the numbers of the file's slices that those of a resampled volume lie nearest to."""
    affine, shape = np.asarray(volume.meta["original_affine"]), volume.meta["spatial_shape"]
    axis = voxel_axis(affine, slice_axis)
    middle = (np.array(volume.shape[2:]) - 1) / 2
    centres = np.array([[place, *middle] for place in range(volume.shape[1])])  # (V, 3)
    in_file = apply_affine(np.linalg.inv(affine) @ np.asarray(volume.affine), centres)[:, axis]
    numbers: Array = in_file.round().astype(int).clip(0, shape[axis] - 1)
    return numbers


def scan_embeddings(scans: Sequence[SliceFeatures], num_bins: int = 4) -> Array:
    """Return an embedding of each scan :math:`(N, P D)`, of length 1.

    The means of the slices' features in P parts of equal length stand one after the other: scans are compared part by
    part, as the positional loss compares slices.

    Args:
        scans: of one encoder.
        num_bins: P.
    """
    parts = [adaptive_avg_pool1d(torch.as_tensor(scan.features).double().T, num_bins).flatten() for scan in scans]
    embeddings: Array = normalize(torch.stack(parts), dim=1).numpy()
    return embeddings
