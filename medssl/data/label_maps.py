"""One label map of each case, from a file per organ, from contours, from slices, or from other ids."""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import nibabel as nib
import numpy as np
from monai.data import MetaTensor
from PIL import Image
from tqdm.auto import tqdm

from medssl import atomic
from medssl.data.manifest_checks import Record
from medssl.data.scan_folder import natural
from medssl.readers import ScanError
from medssl.readers.dicom_series import image_header, series_files
from medssl.readers.rt_struct import RTStruct, is_rt_struct, read_rt_struct
from medssl.transforms import LoadScan, SameGridd

logger = logging.getLogger(__name__)

FOLDER = "medssl_labels"  # in the data folder
Organs = Mapping[int, Sequence[str | int]]  # what the files, or an RTSTRUCT, call a label; or its ids in a label map


class Joined(NamedTuple):
    """What became of a case's labels.

    Attributes:
        known: ids that the case has a file, or contours, of.
        overlapping: voxels that more than one of them covers.
        others: names that belong to no label.
    """

    known: list[int]
    overlapping: int
    others: list[str]


def join_labels(records: Sequence[Record], root: str | Path, organs: Organs, executor: Executor) -> list[Record]:
    """Write one label map for every record, and return the records that name it.

    Where organs overlap the higher id has the voxel. An organ without a file, or without contours, was not looked for:
    it is left out of the record's ``known_classes``. Maps that were written before are taken where nothing has changed.

    Args:
        records: whose ``label`` is a path, of a label map, an RTSTRUCT, or a folder of PNG slices; or paths by organ,
            a file each.
        root: folder that their paths start from; maps are written to ``medssl_labels`` in it.
        organs: by id, the names or the values that make up a label. Case, spaces and punctuation of names do not count.
        executor: runs the cases.

    Raises:
        ValueError: if a label stands in no case.
        medssl.readers.ScanError: if a file cannot be read, or lies on another grid than its image.
    """
    root = Path(root)
    join = partial(join_case, root=root, organs=organs)
    joined = list(tqdm(executor.map(join, records), "joining labels", total=len(records), unit="case"))
    others = Counter(name for case in joined for name in case.others)
    known = {label for case in joined for label in case.known}
    if missing := [f"{label} ({', '.join(map(str, organs[label]))})" for label in organs if label not in known]:
        there = f"; what no label names: {', '.join(others)}" if others else ""
        raise ValueError(f"no case has label {', '.join(missing)}{there}; correct the names.")
    if others:
        logger.info("labels: left out %s", ", ".join(f"{name} ({count} cases)" for name, count in others.items()))
    if overlapping := sum(case.overlapping for case in joined):
        cases = sum(case.overlapping > 0 for case in joined)
        logger.info("labels: %d voxels of %d cases lie in several organs: the higher id has them", overlapping, cases)
    made = []
    for record, case in zip(records, joined, strict=True):
        partly = {} if len(case.known) == len(organs) else {"known_classes": case.known}
        made.append({**record, "label": map_of(record).as_posix(), **partly})
    return made


def map_of(record: Record) -> Path:
    """Return where a record's label map is written."""
    return Path(FOLDER) / f"{re.sub(r'[^0-9A-Za-z.-]+', '_', record['case_id'])}.nii.gz"


def join_case(record: Record, root: Path, organs: Organs) -> Joined:
    """Write the label map of one case."""
    image, output = root / record["image"], root / map_of(record)
    named: Mapping[str, str] | str = record["label"]
    files = [root / name for name in (named.values() if isinstance(named, Mapping) else [named])]
    stamp = stamp_of([image, *files], organs)
    notes = output.with_name(output.name.replace(".nii.gz", ".json"))
    if output.is_file() and notes.is_file():
        noted = json.loads(notes.read_text(encoding="utf-8"))
        if noted.pop("stamp") == stamp:
            return Joined(**noted)
    volume = LoadScan()(image, record.get("frame"))
    source = source_of(named, root, image, volume)
    label = np.zeros(volume.shape[1:], dtype=np.uint8 if max(organs) < 256 else np.uint16)
    known, taken, overlapping = [], set(), 0
    for number in sorted(organs):
        wanted = {plain(name) for name in organs[number]}
        if names := [name for name in source.names if plain(name) in wanted]:
            mask = source.draw(names)
            overlapping += int((label[mask] > 0).sum())
            label[mask] = number
            taken |= set(names)
        if names or source.complete:
            known.append(number)
    joined = Joined(known, overlapping, [str(name) for name in source.names if name not in taken])
    atomic.replace(output, partial(nib.save, nib.Nifti1Image(label, np.asarray(volume.affine))))
    text = json.dumps({"stamp": stamp, **joined._asdict()})
    atomic.replace(notes, partial(Path.write_text, data=text, encoding="utf-8"))
    return joined


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
    ids = of_slices(file, image, volume) if file.is_dir() else on_grid(volume, file)
    return Source([value for value in np.unique(ids).tolist() if value], partial(np.isin, ids), complete=True)


def union(volume: MetaTensor, files: Sequence[Path]) -> np.ndarray:
    """Return where any of some masks is not 0."""
    return np.any([on_grid(volume, file) != 0 for file in files], axis=0)


def on_grid(volume: MetaTensor, file: Path) -> np.ndarray:
    """Return the whole numbers of a label map :math:`(X, Y, Z)` that lies on the image's grid."""
    label = LoadScan()(file)
    SameGridd(["image", "label"])({"image": volume, "label": label})
    ids = np.asarray(label[0])
    if (ids % 1).any():
        raise ScanError("labels", file, f"it must hold whole numbers, it holds {ids[ids % 1 != 0].flat[0]:g}")
    return ids.astype(int)


def of_slices(folder: Path, image: Path, volume: MetaTensor) -> np.ndarray:
    """Return the ids of a folder of PNG files :math:`(X, Y, Z)`, of which every one belongs to a file of the series.

    Both are numbered alike: the first of the one belongs to the first of the other, by name.
    """
    pictures = sorted(folder.glob("*.png"), key=lambda file: natural(file.name))
    files = series_files(image)
    if len(pictures) != len(files):
        raise ScanError("grid", folder, f"there must be a PNG for each of {len(files)} slices, got {len(pictures)}")
    places = {file: number for number, file in enumerate(sorted(files, key=lambda file: natural(file.name)))}
    slices = [np.asarray(Image.open(pictures[places[file]]).convert("L")) for file in files]  # (Y, X) each
    ids = np.stack(slices).transpose(2, 1, 0).astype(int)
    if ids.shape != volume.shape[1:]:
        raise ScanError("grid", folder, f"slices must be {volume.shape[1:]} as the image, got {ids.shape}")
    return ids


def check_series(structures: RTStruct, image: Path) -> None:
    """Refuse contours that were drawn on another DICOM series."""
    headers = map(image_header, sorted(image.iterdir()) if image.is_dir() else [image])
    uid = next((str(header.get("SeriesInstanceUID")) for header in headers if header), None)
    if uid and structures.series and uid not in structures.series:
        came = f"it was drawn on series {', '.join(sorted(structures.series))}, the image is {uid}"
        raise ScanError("grid", structures.file, came)


def plain(name: str | int) -> str:
    """Return a name without what differs between those who write it."""
    return re.sub(r"[\W_]+", "", str(name)).casefold()


def stamp_of(files: Sequence[Path], organs: Organs) -> str:
    """Return what a label map depends on."""
    states = [[file.name, file.stat().st_size, file.stat().st_mtime_ns] for file in files]
    parts = [states, sorted((label, list(names)) for label, names in organs.items())]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()
