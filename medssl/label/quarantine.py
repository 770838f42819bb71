"""Scans that cannot be used, so that one of them does not stop the annotation of the others."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from medssl.atomic import replace
from medssl.transforms import LoadScan, Window


def quarantine(images: Mapping[str, Path], annotated: Collection[str], file: Path) -> dict[str, str]:
    """Return why scans are left out: damaged, no volume, without any contrast, or the same as another.

    Every scan is read once; what was found of it counts until its size or time change.

    Args:
        images: file of every scan by its id.
        annotated: ids of those that have an annotation; of equal scans they are the ones to keep.
        file: that keeps what was found.

    Returns:
        The reasons, by the ids of the scans that are left out.
    """
    known: dict[str, dict[str, Any]] = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    found: dict[str, dict[str, Any]] = {}
    for case, image in tqdm(
        sorted(images.items(), key=lambda pair: (pair[0] not in annotated, pair[0])), desc="looking", unit="scan"
    ):
        stamp = [image.stat().st_size, image.stat().st_mtime_ns]
        before = known.get(case)
        found[case] = before if before and before["stamp"] == stamp else {"stamp": stamp, **look_at(image)}
    if list(found.items()) != list(known.items()):  # the first of equal ones stays
        replace(file, partial(Path.write_text, data=json.dumps(found), encoding="utf-8"))
    return reasons(found)


def left_out(file: Path) -> dict[str, str]:
    """Return what :py:func:`quarantine` found last, without a look at the scans."""
    return reasons(json.loads(file.read_text(encoding="utf-8"))) if file.is_file() else {}


def look_at(image: Path) -> dict[str, str]:
    """Read a scan; return its ``fault``, or what tells its ``voxels`` from those of others."""
    try:
        volume = LoadScan()(image)
        Window(zscore=True).check(volume)
    except ValueError as error:
        return {"fault": str(error)}
    return {"voxels": hashlib.sha256(volume.as_tensor().numpy().tobytes()).hexdigest()}


def reasons(found: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Return why scans are left out, from what was seen of each."""
    first: dict[str, str] = {}
    left = {}
    for case, seen in found.items():
        if "fault" in seen:
            left[case] = seen["fault"]
        elif (same := first.setdefault(seen["voxels"], case)) != case:
            left[case] = f"it holds the same voxels as {same}; remove one of the two"
    return left
