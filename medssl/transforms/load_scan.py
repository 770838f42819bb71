"""Scans loaded whole, or not at all."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor, NibabelReader
from monai.transforms import MapTransform, Transform
from nibabel.spatialimages import SpatialImage

from medssl.readers import read_scan


class ScanReader(NibabelReader):
    """MONAI image reader that refuses what is damaged or no volume: see :py:func:`medssl.readers.read_scan`.

    Args:
        frame: which volume of a series of frames, counted from 1.
    """

    def __init__(self, frame: int | None = None) -> None:
        super().__init__()
        self.frame = frame

    def read(self, data: Sequence[str | Path] | str | Path, **kwargs: Any) -> SpatialImage:
        """Return the volume of a file or of a DICOM series' folder, in memory."""
        (file,) = [data] if isinstance(data, (str, Path)) else data
        self.filenames = (file,)
        return read_scan(file, self.frame)


class LoadScan(Transform):
    """Load a volume of any format that :py:func:`medssl.readers.read_scan` knows, all of it or an error that says why.

    As MONAI's ``LoadImage``, which takes frames for channels, does not come to the checksum at the end of a compressed
    file, and answers every fault of a file by asking for libraries to be installed.

    Shape:
        - output: :math:`(1, X, Y, Z)` ``MetaTensor``, float32, affine in RAS; ``meta`` names file and frame.

    Raises:
        medssl.readers.ScanError: when called, see :py:func:`medssl.readers.read_scan`.
    """

    def __call__(self, file: str | Path, frame: int | None = None) -> MetaTensor:
        """Return the volume, or one frame of it."""
        reader = ScanReader(frame)
        voxels, meta = reader.get_data(reader.read(file))
        meta |= {"filename_or_obj": str(file), "frame": frame or 1}
        # Files have x fastest, which MONAI would turn around here; as it is, the voxels of axial slices lie in order.
        return MetaTensor(torch.from_numpy(np.asarray(voxels, dtype=np.float32))[None], meta=meta)


class LoadScand(MapTransform):
    """Dictionary-based :py:class:`LoadScan`; where a file holds several frames, a record's ``frame`` says which.

    It is taken away then, since not every record of a batch has one.
    """

    def __init__(self, keys: KeysCollection, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)
        self.load = LoadScan()

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the dictionary with its files loaded."""
        volumes = {key: self.load(data[key], data.get("frame")) for key in self.key_iterator(data)}
        return {key: value for key, value in data.items() if key != "frame"} | volumes
