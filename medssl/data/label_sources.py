"""What the label map of a case is drawn from: a file per organ, contours, slices, or other ids."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from monai.data import MetaTensor
from PIL import Image

from medssl.data.scan_folder import natural
from medssl.readers import ScanError
from medssl.readers.dicom_series import image_header, series_files
from medssl.readers.rt_struct import RTStruct, is_rt_struct, read_rt_struct
from medssl.transforms import LoadScan, SameGridd
from medssl.transforms.labels import count_values


class Source(NamedTuple):
    """What a case's labels are drawn from.

    Attributes:
        names: of all that it holds: organs, or ids.
        draw: makes the voxels of some of the names, bool :math:`(X, Y, Z)`.
        complete: whether an organ that it does not name is absent, rather than not looked for.
    """

    names: list[Any]
    draw: Callable[[Sequence[Any]], np.ndarray]
    complete: bool


def named_in(source: Source, organ: Sequence[str | int]) -> list[Any]:
    """Return what a source holds of an organ: names as they are commonly written, ids as they are."""
    wanted = {plain(str(name)) for name in organ}
    return [name for name in source.names if (plain(name) in wanted if isinstance(name, str) else name in organ)]


def source_of(named: Mapping[str, str] | str, root: Path, image: Path, volume: MetaTensor) -> Source:
    """Return what a record's label is drawn from."""
    if isinstance(named, Mapping):
        return Source(list(named), lambda names: union(volume, [root / named[name] for name in names]), complete=False)
    file = root / named
    if is_rt_struct(file):
        structures = read_rt_struct(file)
        check_series(structures, image)
        draw = partial(structures.draw, shape=volume.shape[1:], affine=np.asarray(volume.affine))
        return Source(list(structures.contours), draw, complete=False)
    ids = of_slices(file, image, volume) if file.is_dir() else on_grid(volume, file).astype(np.int32)
    return Source([int(value) for value in count_values(ids) if value], partial(np.isin, ids), complete=True)


def union(volume: MetaTensor, files: Sequence[Path]) -> np.ndarray:
    """Return where any of some masks is not 0."""
    return np.any([on_grid(volume, file) != 0 for file in files], axis=0)


def on_grid(volume: MetaTensor, file: Path) -> np.ndarray:
    """Return the whole numbers of a label map :math:`(X, Y, Z)` that lies on the image's grid."""
    label = LoadScan()(file)
    SameGridd(["image", "label"])({"image": volume, "label": label})
    values = np.asarray(label[0])
    if fractions := [value for value in count_values(values) if value % 1]:
        raise ScanError("labels", file, f"it must hold whole numbers, it holds {fractions[0]:g}")
    return values


def of_slices(folder: Path, image: Path, volume: MetaTensor) -> np.ndarray:
    """Return the ids of a folder of PNG files :math:`(X, Y, Z)`, of which every one belongs to a file of the series.

    Both are numbered alike: the first of the one belongs to the first of the other, by name.
    """
    pictures = sorted((file for file in folder.glob("*.png") if file.name[0] != "."), key=by_name)
    files = series_files(image)
    if len(pictures) != len(files):
        raise ScanError("grid", folder, f"there must be a PNG for each of {len(files)} slices, got {len(pictures)}")
    places = {file: number for number, file in enumerate(sorted(files, key=by_name))}
    ids = np.stack([read_slice(pictures[places[file]]) for file in files]).transpose(2, 1, 0)
    if ids.shape != volume.shape[1:]:
        raise ScanError("grid", folder, f"slices must be {tuple(volume.shape[1:])} as the image, got {ids.shape}")
    return ids


def read_slice(file: Path) -> np.ndarray:
    """Return the grey values of a PNG, or its colours' numbers :math:`(Y, X)`; black and white are 0 and 255."""
    try:
        with Image.open(file) as picture:
            pixels = np.asarray(picture)
    except (OSError, SyntaxError) as error:  # the latter is Pillow's of broken headers
        raise ScanError("damaged", file, f"it cannot be read to its end ({error})") from error
    if pixels.ndim != 2:
        raise ScanError("labels", file, f"it must be grey, it has {pixels.shape[2]} channels")
    return pixels * 255 if pixels.dtype == bool else pixels


def by_name(file: Path) -> list[Any]:
    """Return what sorts files as people number them."""
    return natural(file.name)


def check_series(structures: RTStruct, image: Path) -> None:
    """Refuse contours that were drawn on another DICOM series."""
    headers = map(image_header, sorted(image.iterdir()) if image.is_dir() else [image])
    uid = next((str(header.get("SeriesInstanceUID")) for header in headers if header), None)
    if uid and structures.series and uid not in structures.series:
        came = f"it was drawn on series {', '.join(sorted(structures.series))}, the image is {uid}"
        raise ScanError("grid", structures.file, came)


def plain(name: str) -> str:
    """Return a name without what differs between those who write it."""
    return re.sub(r"[\W_]+", "", name).casefold()
