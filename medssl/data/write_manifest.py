"""A manifest from records: what is not said about a data set is taken from its files, and told."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from nibabel.affines import voxel_sizes
from tqdm.auto import tqdm

from medssl.atomic import replace
from medssl.data.manifest import Manifest, ManifestError, load_manifest
from medssl.data.manifest_checks import SECTIONS, Record
from medssl.readers import NIBABEL, read_header, read_scan
from medssl.transforms.spacing import AXCODES, voxel_axis

logger = logging.getLogger(__name__)

CT, MR = {"hu": [-160, 240]}, {"percentiles": [1, 99], "zscore": True}  # windows: soft tissue; of no unit
WHOSE = "if not, say whose: {subject} in the pattern, a column subject_id, or subject_id in the manifest"
SAMPLED = 20  # scans whose spacing is looked at


def write_manifest(facts: Mapping[str, Any], root: str | Path, output: str | Path) -> Manifest:
    """Complete a manifest, write it and check it.

    Args:
        facts: keys of a manifest; ``modality`` and records must be among them. Where others are missing: ``labels`` are
            the ids of the label files, ``slice_axis`` is S, ``spacing`` the median of the files', ``window`` soft
            tissue for CT and percentiles with a z-score for all else.
        root: folder that the records' paths start from.
        output: file to write.

    Returns:
        The manifest as it was loaded again.

    Raises:
        ManifestError: listing what is wrong with it; the file is kept, with ``unusable_`` before its name.
        ValueError: if there is no modality; if the ids of the label files leave gaps.
        medssl.readers.ScanError: if a file that is looked at cannot be read.
    """
    root, output = Path(root), Path(output)
    if "modality" not in facts:
        raise ValueError("say what the images are: --modality CT, --modality MR, ...")
    records = [record for section in SECTIONS for record in facts.get(section, [])]
    whole: dict[str, Any] = {"schema": "medssl.manifest/1", "name": root.absolute().name, "slice_axis": "S", **facts}
    if "window" not in whole:
        whole["window"] = CT if whole["modality"]["0"].upper().startswith("CT") else MR
        logger.info("window: %s, by the modality; say --window for another", json.dumps(whole["window"]))
    if "spacing" not in whole:
        whole["spacing"] = usual_spacing(records, root, whole["slice_axis"])
        logger.info("spacing: %s mm, the median of the files; say --spacing for another", whole["spacing"])
    if "labels" not in whole:
        whole["labels"] = found_labels(records, root)
        logger.info("labels: %s, by the ids in the files; name them in %s", whole["labels"], output)
    if len(records) > 1 and len({record["subject_id"] for record in records}) == len(records):
        logger.info("subjects: each of the %d scans is taken for the only one of a person; %s", len(records), WHOSE)
    text = as_text(whole)
    replace(output, lambda file: file.write_text(text, encoding="utf-8"))
    try:
        return load_manifest(output, root)
    except ManifestError:
        draft = output.replace(output.with_name(f"unusable_{output.name}"))  # out of the way of the next try
        return load_manifest(draft, root)


def usual_spacing(records: Sequence[Record], root: Path, slice_axis: str) -> list[float]:
    """Return the median (depth, height, width) of some scans, mm."""
    sides = []
    for record in records[:: max(1, len(records) // SAMPLED)]:
        file = root / record["image"]
        scan = read_header(file) if file.name.endswith(NIBABEL) else read_scan(file, record.get("frame"))
        sizes = voxel_sizes(np.asarray(scan.affine))
        if slice_axis == "largest_spacing":
            depth, *plane = sorted(sizes, reverse=True)
            sides.append([depth, *plane])
        else:
            sides.append([sizes[voxel_axis(scan.affine, code)] for code in AXCODES[slice_axis]])
    return [round(float(side), 3) for side in np.median(sides, axis=0)]


def found_labels(records: Sequence[Record], root: Path) -> dict[str, str]:
    """Return a name for every id in the label files."""
    ids: set[int] = {0}
    for record in tqdm([record for record in records if "label" in record], "reading labels", unit="case"):
        label = read_scan(root / record["label"], record.get("frame"))
        ids |= set(np.unique(np.asanyarray(label.dataobj)).astype(int).tolist())
    if sorted(ids) != list(range(len(ids))):
        raise ValueError(f"ids must run from 0 without a gap, the label files hold {sorted(ids)}; renumber them.")
    return {str(number): f"label {number}" if number else "background" for number in sorted(ids)}


def as_text(manifest: Mapping[str, Any]) -> str:
    """Return a manifest as JSON, a line a record."""
    heads = [f" {json.dumps(key)}: {json.dumps(value)}" for key, value in manifest.items() if key not in SECTIONS]
    for section in SECTIONS:
        if section in manifest:
            rows = ",\n".join(f"  {json.dumps(record, ensure_ascii=False)}" for record in manifest[section])
            heads.append(f" {json.dumps(section)}: [\n{rows}\n ]" if rows else f" {json.dumps(section)}: []")
    return "{\n" + ",\n".join(heads) + "\n}\n"
