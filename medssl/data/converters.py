"""Records and heads of manifests from what other projects keep: nnU-Net, nnssl, tables."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pandas as pd

from medssl.data.manifest_checks import SECTIONS, Record
from medssl.data.scan_folder import scan_folder

CELLS = {  # of a table, which may be empty but for images
    "image": (r".+", "a path"),
    "fold": (r"\d*", "a whole number"),
    "frame": (r"\d*", "a whole number"),
    "section": ("|".join(["", *SECTIONS]), f"one of {', '.join(SECTIONS)}"),
}


def from_nnunet(root: str | Path) -> dict[str, Any]:
    """Return what a folder of nnU-Net v2 says: ``name``, ``modality``, ``labels`` and records.

    Args:
        root: the folder ``DatasetNNN_Name``: ``dataset.json``, ``imagesTr``, ``labelsTr`` and, perhaps, ``imagesTs``.

    Raises:
        ValueError: if an image has several channels, or a label is a region of several ids.
    """
    root = Path(root)
    if not (root / "dataset.json").is_file():
        raise FileNotFoundError(f"no dataset.json in {root}; give the folder of one data set, DatasetNNN_Name.")
    raw = json.loads((root / "dataset.json").read_text(encoding="utf-8"))
    if len(raw["channel_names"]) != 1:
        raise ValueError(f"images must have one channel, got {list(raw['channel_names'].values())}; split them.")
    regions = {name: ids for name, ids in raw["labels"].items() if isinstance(ids, list)}
    if regions:
        raise ValueError(f"a label must be one id, got regions {regions}; name the ids themselves.")
    ignored = {str(number): "ignore" for name, number in raw["labels"].items() if name == "ignore"}
    labels = {str(number): name for name, number in raw["labels"].items() if name != "ignore"}
    ending = raw["file_ending"]
    records = scan_folder(root, f"imagesTr/{{case}}_0000{ending}", f"labelsTr/{{case}}{ending}")
    if (root / "imagesTs").is_dir() and any((root / "imagesTs").iterdir()):
        records["unlabeled"] += scan_folder(root, f"imagesTs/{{case}}_0000{ending}")["unlabeled"]
    head = {"name": raw.get("name", root.name), "modality": {"0": next(iter(raw["channel_names"].values()))}}
    return {**head, "labels": labels, **({"label_policy": ignored} if ignored else {}), **records}


def from_nnssl(file: str | Path, root: str | Path) -> dict[str, Any]:
    """Return the images that an nnssl ``pretrain_data.json`` names, all of them unlabelled.

    Args:
        file: of datasets, subjects, sessions and images.
        root: folder that the manifest's paths will start from; the file's, with its ``$NAME`` prefixes read from the
            environment, must lie in it.

    Raises:
        ValueError: if an image lies elsewhere.
    """
    raw = json.loads(Path(file).read_text(encoding="utf-8"))
    base = Path(root).resolve()
    records = []
    for data_set, content in raw["datasets"].items():
        for subject, member in content["subjects"].items():
            for session, visit in member["sessions"].items():
                for number, image in enumerate(visit["images"]):
                    path = Path(os.path.expandvars(image["image_path"])).resolve()
                    if not path.is_relative_to(base):
                        raise ValueError(
                            f"{image['image_path']} must lie in {root}; give the folder that has them all."
                        )
                    case = f"{data_set}_{subject}_{session}_{image.get('name', number)}"
                    person = f"{data_set}_{subject}"
                    record: Record = {"case_id": case, "subject_id": person, "image": str(path.relative_to(base))}
                    records.append(record)
    return {"name": raw.get("collection_name", Path(file).stem), "training": [], "unlabeled": records}


def from_table(file: str | Path) -> dict[str, list[Record]]:
    """Return the records of a CSV file, a row each.

    Args:
        file: with a column ``image``; it may have ``label``, ``case_id``, ``subject_id``, ``fold``, ``frame`` and
            ``section``, one of training, validation, test, unlabeled. Empty cells are left out. A case is named after
            its image where nothing else is said, a subject after its case.

    Raises:
        ValueError: for a table without images or with an unknown column; listing every cell that cannot be used.
    """
    table = pd.read_csv(file, dtype=str, keep_default_na=False)
    known = ["image", "label", "case_id", "subject_id", "fold", "frame", "section"]
    if "image" not in table or (strange := [name for name in table if name not in known]):
        came = list(table) if "image" not in table else strange
        raise ValueError(f"{file} must have a column image, and may have {', '.join(known[1:])}; got {came}.")
    if table.empty:
        raise ValueError(f"{file} must have a row for every scan, it has none.")
    wrong = [
        f"row {number}: {column} must be {wanted}, got {row[column]!r}"
        for number, row in enumerate(table.to_dict("records"), start=1)
        for column, (pattern, wanted) in CELLS.items()
        if column in row and not re.fullmatch(pattern, row[column])
    ]
    if wrong:
        raise ValueError("\n  ".join([f"{file} cannot be used:", *wrong]))
    records: dict[str, list[Record]] = {}
    for row in table.to_dict("records"):
        record: Record = {str(key): value for key, value in row.items() if value != ""}
        record |= {key: int(record[key]) for key in ("fold", "frame") if key in record}
        section = record.pop("section", "training" if "label" in record else "unlabeled")
        record.setdefault("case_id", Path(record["image"]).name.split(".")[0])
        record.setdefault("subject_id", record["case_id"])
        records.setdefault(section, []).append(record)
    return {"training": [], **records}
