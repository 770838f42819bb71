"""One label map of each case, from a file per organ, from contours, from slices, or from other ids."""

from __future__ import annotations

import hashlib
import json
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from functools import partial
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

import nibabel as nib
import numpy as np
from tqdm.auto import tqdm

from medssl import atomic
from medssl.data.label_sources import named_in, source_of
from medssl.data.manifest_checks import Record
from medssl.data.scan_folder import LABELS_FOLDER
from medssl.transforms import LoadScan
from medssl.transforms.labels import count_values

logger = logging.getLogger(__name__)

LAYOUT = 2  # of a label map, of the notes beside it and of how it is drawn
Organs = Mapping[int, Sequence[str | int]]  # what the files, or an RTSTRUCT, call a label; or its ids in a label map


class Joined(NamedTuple):
    """What became of a case's labels.

    Attributes:
        file: the label map, below the folder that they are written in.
        known: ids that were looked for.
        drawn: ids that the case has a file, contours or voxels of.
        covered: ids that have no voxel left, since those of higher ids cover them all.
        overlapping: voxels that more than one of them covers.
        others: names that belong to no label.
    """

    file: str
    known: list[int]
    drawn: list[int]
    covered: list[int]
    overlapping: int
    others: list[str]


def join_labels(
    records: Sequence[Record], root: str | Path, organs: Organs, executor: Executor, folder: str | Path | None = None
) -> list[Record]:
    """Write one label map for every record, and return the records that name it.

    Where organs overlap the higher id has the voxel. An organ without a file, or without contours, was not looked for:
    it is left out of the record's ``known_classes``; so is one of which others leave nothing. Maps that were written
    before are taken where nothing has changed; what has changed is written under another name, and never in the place
    of an earlier map.

    Args:
        records: whose ``label`` is a path, of a label map, an RTSTRUCT, or a folder of PNG slices; or paths by organ,
            a file each.
        root: folder that their paths start from.
        organs: by id, the names or the values that make up a label. Case, spaces and punctuation of names do not count.
        executor: runs the cases.
        folder: that the paths of the maps start from, which are written to ``medssl_labels`` in it; default: the root.

    Raises:
        ValueError: listing the cases that cannot be joined; if a label has no file, no contours, or none of them a
            voxel, in any case.
    """
    root = Path(root)
    futures = [executor.submit(join_case, record, root, organs, Path(folder or root)) for record in records]
    joined, failed = [], []
    for record, future in zip(records, tqdm(futures, "joining labels", unit="case"), strict=True):
        try:
            joined.append(future.result())
        except (ValueError, OSError) as error:
            failed.append(f"{record['case_id']}: {error}")
    if failed:
        raise ValueError("\n  ".join([f"{len(failed)} cases cannot be joined; mend them, or move them away:", *failed]))
    tell(records, joined, organs)
    made = []
    for record, case in zip(records, joined, strict=True):
        partly = {} if len(case.known) == len(organs) else {"known_classes": case.known}
        rest = {key: value for key, value in record.items() if key != "known_classes"}
        made.append({**rest, "label": case.file, **partly})
    return made


def tell(records: Sequence[Record], joined: Sequence[Joined], organs: Organs) -> None:
    """Say what was left out and what is incomplete, and refuse labels that are nowhere."""
    ids = [record["case_id"] for record in records]
    for number in organs:
        unknown = [name for name, case in zip(ids, joined, strict=True) if number not in {*case.known, *case.covered}]
        covered = [name for name, case in zip(ids, joined, strict=True) if number in case.covered]
        for names, what in ((unknown, "was not contoured in"), (covered, "is covered by those listed after it in")):
            if names:
                logger.warning("labels: %d (%s) %s %s", number, organs[number][0], what, some(names))
    others = Counter(name for case in joined for name in case.others)
    known = {label for case in joined for label in (*case.known, *case.covered)}
    drawn = {label for case in joined for label in case.drawn}
    for absent, stops in ((organs.keys() - known, True), (known - drawn, not drawn)):
        if not absent:
            continue
        named = ", ".join(f"{label} ({', '.join(map(str, organs[label]))})" for label in sorted(absent))
        there = f"; what no label names: {', '.join(others)}" if others else ""
        if stops:
            raise ValueError(f"no case has label {named}{there}; correct the names.")
        logger.warning("labels: no case has a voxel of label %s", named)
    if others:
        counted = some([f"{name} ({count})" for name, count in others.most_common()])
        logger.info("labels: left out, with the number of cases: %s", counted)
    if overlapping := sum(case.overlapping for case in joined):
        cases = sum(case.overlapping > 0 for case in joined)
        logger.info("labels: %d voxels of %d cases lie in several organs: the higher id has them", overlapping, cases)


def some(names: Sequence[str]) -> str:
    """Write the first of many names."""
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")


def join_case(record: Record, root: Path, organs: Organs, folder: Path) -> Joined:
    """Write the label map of one case."""
    image, named = root / record["image"], record["label"]
    files = [root / name for name in (named.values() if isinstance(named, Mapping) else [named])]
    name = f"{quote(record['case_id'], safe=' ')}.{stamp_of(record, [image, *files], organs)}"
    output, notes = (folder / LABELS_FOLDER / f"{name}{ending}" for ending in (".nii.gz", ".json"))
    if output.is_file() and notes.is_file():
        return Joined(**json.loads(notes.read_text(encoding="utf-8")))
    volume = LoadScan()(image, record.get("frame"))
    source = source_of(named, root, image, volume)
    label = np.zeros(volume.shape[1:], dtype=np.uint8 if max(organs) < 256 else np.uint16)
    contoured = record.get("known_classes")  # of a label map with other ids
    known, drawn, present, taken, overlapping = [], [], [], set(), 0
    for number in sorted(organs):
        if names := named_in(source, organs[number]):
            mask = source.draw(names)
            if mask.any():
                present.append(number)
            overlapping += int((label[mask] > 0).sum())
            label[mask] = number
            taken |= set(names)
            drawn.append(number)
        if names or (source.complete and (contoured is None or not set(contoured).isdisjoint(organs[number]))):
            known.append(number)
    left = count_values(label)
    covered = [number for number in present if number not in left]
    known = [number for number in known if number not in covered]
    others = [str(name) for name in source.names if name not in taken]
    joined = Joined(output.relative_to(folder).as_posix(), known, drawn, covered, overlapping, others)
    atomic.replace(output, partial(nib.save, nib.Nifti1Image(label, np.asarray(volume.affine))))
    atomic.replace(notes, partial(Path.write_text, data=json.dumps(joined._asdict()), encoding="utf-8"))
    return joined


def stamp_of(record: Record, files: Sequence[Path], organs: Organs) -> str:
    """Return a few digits that change with all that a label map depends on."""
    parts = [part for file in files for part in (sorted(file.iterdir()) if file.is_dir() else [file])]
    states = [[part.name, part.stat().st_size, part.stat().st_mtime_ns] for part in parts]
    depends = [LAYOUT, record, sorted((label, list(names)) for label, names in organs.items()), states]
    return hashlib.sha256(json.dumps(depends).encode()).hexdigest()[:8]
