"""Everything that can be wrong with a manifest: each check returns its problems, a JSON pointer and a sentence each."""

from __future__ import annotations

import difflib
import json
import math
import os.path
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from jsonschema import Draft202012Validator, ValidationError  # type: ignore[import-untyped]

from medssl.readers import is_placed
from medssl.resources import resource

Record = dict[str, Any]
Roots = Mapping[str, Path]  # folders that the paths of images and of labels start from
UNPLACED = (
    "a header with neither sform nor qform does not say how a scan lies in space; repair it, or declare assume_affine "
    "true: its axes are then taken to be right, anterior, superior"
)
SECTIONS = ("training", "validation", "test", "unlabeled")


class Row(NamedTuple):
    """A record and where it stands."""

    pointer: str
    section: str
    record: Record


def parse(text: bytes) -> tuple[Any, list[str]]:
    """Parse JSON, noting what Python's parser lets pass: repeated keys, and numbers that are none."""
    repeated: dict[int, tuple[Any, list[str]]] = {}  # holds the objects, so that their ids stay theirs

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        made = dict(pairs)
        if len(made) < len(pairs):
            twice = [key for key, count in Counter(key for key, _ in pairs).items() if count > 1]
            repeated[id(made)] = made, twice
        return made

    try:
        raw = json.loads(text, object_pairs_hook=unique)
    except (ValueError, RecursionError) as error:
        return None, [f"it is no JSON: {error}"]
    problems = []
    for where, value in walk(raw):
        for key in repeated.get(id(value), (None, []))[1]:
            problems.append(f"{where}: key {key!r} stands twice in one object; keep one of them")
        if isinstance(value, float) and not math.isfinite(value):
            problems.append(f"{where}: {json.dumps(value)} is no JSON number; write null or a number")
    if not isinstance(raw, dict):
        problems.append(f"/: it must be a JSON object, got a {type(raw).__name__}")
    return raw, problems


def walk(raw: Any) -> Iterator[tuple[str, Any]]:
    """Yield every value with its JSON pointer."""
    stack = [("", raw)]
    while stack:
        where, value = stack.pop()
        yield where or "/", value
        parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        stack += reversed([(f"{where}/{escape(key)}", part) for key, part in parts])


def escape(key: Any) -> str:
    """Write a key as JSON pointers do."""
    return str(key).replace("~", "~0").replace("/", "~1")


def readable(raw: dict[str, Any], roots: Roots) -> bool:
    """Whether a manifest fits the schema and no path leaves its root: whatever else is wrong, its files may be read."""
    records = [record for section in SECTIONS for record in raw.get(section, [])]
    return not schema_errors(raw) and all(
        inside(record[key], root) for record in records for key, root in roots.items() if key in record
    )


def inside(name: str, root: Path) -> bool:
    """Whether a path is relative and stays below the root."""
    return not Path(name).is_absolute() and (root / name).resolve().is_relative_to(root.resolve())


def schema_errors(raw: dict[str, Any]) -> list[ValidationError]:
    """Return where a manifest does not fit the schema, in order."""
    schema = json.loads(resource("data_manifests/schema.json").read_text(encoding="utf-8"))
    return sorted(Draft202012Validator(schema).iter_errors(raw), key=lambda e: list(map(str, e.absolute_path)))


def check(raw: dict[str, Any], roots: Roots, check_files: bool) -> list[str]:
    """Return all problems; what the schema finds broken is left out of the further checks, not the rest with it."""
    errors = schema_errors(raw)
    paths = [tuple(error.absolute_path) for error in errors]
    broken = {path[: 2 if path[0] in SECTIONS else 1] for path in paths if path}
    rows = [
        Row(f"/{section}/{number}", section, record)
        for section in SECTIONS
        if (section,) not in broken
        for number, record in enumerate(raw.get(section, []))
        if (section, number) not in broken
    ]
    sound = {key: value for key, value in raw.items() if (key,) not in broken}
    empty = [] if errors or rows else ["/: there must be a record in training, validation, test or unlabeled"]
    return [
        *empty,
        *(f"/{'/'.join(map(escape, error.absolute_path))}: {explain(error)}" for error in errors),
        *wrong_names(rows, sound),
        *wrong_paths(rows, roots, check_files),
        *(same_scans(rows, sound, roots["image"]) if check_files else []),
        *(unplaced(rows, roots) if check_files and not sound.get("assume_affine", False) else []),
        *wrong_subjects(rows, sound),
        # Subjects are looked for only where every record could be read.
        *(wrong_references(rows, sound) if not any(path[:1] and path[0] in SECTIONS for path in paths) else []),
    ]


def explain(error: ValidationError) -> str:
    """Say what came and, by the description in the schema, what was wanted."""
    if "propertyNames" in error.absolute_schema_path:
        reason = "MONAI's Spacingd takes it for metadata; rename it"
        return f"key {error.instance!r} must not start with image_ or label_: {reason}"
    message, part = error.message, error.schema
    if error.validator == "required":
        part = part.get("properties", {}).get(message.split("'")[1], {})
    if error.validator == "additionalProperties":
        name = message.split("'")[1]
        close = difflib.get_close_matches(name, part["properties"], n=1)
        message = f"unknown key {name!r}" + (f", perhaps {close[0]!r}" if close else "")
    if len(message) > 200:
        message = f"{message[:120]} ... {message[-60:]}"
    return f"{message}; wanted: {part['description']}" if "description" in part else message


def wrong_names(rows: list[Row], raw: dict[str, Any]) -> list[str]:
    """Case ids that are named more than once, labels that leave gaps, classes that do not exist, an empty window."""
    places: dict[str, list[str]] = {}
    for row in rows:
        places.setdefault(row.record["case_id"], []).append(row.pointer)
    problems = [
        f"{', '.join(pointers)}: case_id {case!r} must stand once; it stands {len(pointers)} times"
        for case, pointers in places.items()
        if len(pointers) > 1
    ]
    for key, pair in raw.get("window", {}).items():
        if isinstance(pair, list) and not pair[0] < pair[1]:
            problems.append(f"/window/{key}: must be a lowest and a highest value, got {pair}; exchange them")
        elif key == "percentiles" and pair[1] <= 1:
            problems.append(
                f"/window/{key}: they are of a hundred, not fractions, got {pair}; write {[100 * v for v in pair]}"
            )
    if "labels" not in raw:
        return problems
    labels = sorted(map(int, raw["labels"]))
    if labels != list(range(len(labels))):
        problems.append(f"/labels: ids must run from 0 without a gap, got {labels}; renumber them, in the files too")
    for key in set(raw.get("label_policy", {})) & set(raw["labels"]):
        problems.append(f"/label_policy/{key}: {key} is a label, {raw['labels'][key]!r}; remove it here or there")
    for row in rows:
        unknown = sorted(set(row.record.get("known_classes", [])) - set(labels))
        if unknown:
            problems.append(f"{row.pointer}/known_classes: known_classes {unknown} are no labels; there are {labels}")
    return problems


def wrong_paths(rows: list[Row], roots: Roots, check_files: bool) -> list[str]:
    """Paths that leave the root or lead nowhere, and files whose one volume is named more than once."""
    problems, missing = [], []
    places: dict[tuple[Path, int | None], list[tuple[str, str]]] = {}
    for row in rows:
        for key, root in roots.items():
            if key not in row.record:
                continue
            where, name = f"{row.pointer}/{key}", row.record[key]
            file = (root / name).resolve()
            places.setdefault((file, row.record.get("frame")), []).append((where, f"{key} {name!r}"))
            if not inside(name, root):
                whose = "the data" if root == roots["image"] else "the manifest's"
                problems.append(f"{where}: {name!r} must be a relative path inside {whose} folder {root}")
            elif check_files and not os.path.exists(file):  # a DICOM series is a folder
                missing.append(f"{where}: no file {name!r} below {root}; correct the path or the root")
    for named in places.values():
        if len(named) > 1:
            pointers = ", ".join(where for where, _ in named)
            problems.append(f"{pointers}: {named[0][1]} must stand once; it stands {len(named)} times")
    if len(missing) > 1 and len(missing) == len(places):
        root = roots["image"]
        lies = "lies below" if root.is_dir() else "is there, nor the folder"
        wish = "give the data folder: --root of python -m medssl, --dataset_dir of a bundle"
        missing = [f"/: none of the {len(missing)} files {lies} {root}; {wish}"]
    return problems + missing


def unplaced(rows: list[Row], roots: Roots) -> list[str]:
    """Scans whose headers leave open how they lie in space."""
    pointers = [
        f"{row.pointer}/{key}"
        for row in rows
        for key, root in roots.items()
        if key in row.record and os.path.isfile(root / row.record[key]) and not is_placed(root / row.record[key])
    ]
    return [f"{', '.join(pointers)}: {UNPLACED}"] if pointers else []


def same_scans(rows: list[Row], raw: dict[str, Any], root: Path) -> list[str]:
    """One scan under several names, unless declared as duplicates; only .nii.gz tells without reading its voxels."""
    scans: dict[bytes, dict[Path, Row]] = {}
    for row in rows:
        file = (root / row.record["image"]).resolve()
        if os.path.isfile(file):
            scans.setdefault(fingerprint(file), {})[file] = row
    problems = []
    for content, same in scans.items():
        subjects = {row.record["subject_id"] for row in same.values()}
        if content and len(same) > 1 and not any(subjects <= set(group) for group in raw.get("duplicates", [])):
            pointers = ", ".join(f"{row.pointer}/image" for row in same.values())
            problems.append(f"{pointers}: one scan under {len(same)} names; remove all but one, or declare duplicates")
    return problems


def fingerprint(file: Path) -> bytes:
    """Return checksum and length of what a gzip file holds, its last 8 bytes; nothing for a file of another kind."""
    if not os.access(file, os.R_OK):
        return b""
    with file.open("rb") as stream:
        head = stream.read(18)
        if len(head) < 18 or not head.startswith(b"\x1f\x8b"):
            return b""
        stream.seek(-8, os.SEEK_END)
        return stream.read()


def wrong_subjects(rows: list[Row], raw: dict[str, Any]) -> list[str]:
    """Subjects on both sides of a split, or in more than one fold, or in none."""
    problems = []
    subjects = {name: {row.record["subject_id"] for row in rows if row.section == name} for name in SECTIONS}
    for section in ("validation", "test"):
        shared = sorted((subjects["training"] | subjects["unlabeled"]) & subjects[section])
        if shared and not raw.get("transductive", False):
            wish = "move them, or declare transductive true"
            problems.append(f"/{section}: subjects {shared} are also trained on; {wish}")
    folds = folds_of(rows)
    problems += [
        f"/training: subject {subject!r} is in folds {sorted(map(str, numbers))}; keep it in one"
        for subject, numbers in folds.items()
        if len(numbers) > 1
    ]
    given = {fold for numbers in folds.values() for fold in numbers}
    if None in given and len(given) > 1:
        problems.append("/training: some records name a fold and some do not; give all of them one, or none")
    return problems


def folds_of(rows: list[Row]) -> dict[str, set[int | None]]:
    """Return the folds that each training subject is said to be in, None where nothing is said."""
    folds: dict[str, set[int | None]] = {}
    for row in rows:
        if row.section == "training":
            folds.setdefault(row.record["subject_id"], set()).add(row.record.get("fold"))
    return folds


def wrong_references(rows: list[Row], raw: dict[str, Any]) -> list[str]:
    """Duplicates of nobody, and orders of subjects that do not fit the folds."""
    problems = []
    for number, group in enumerate(raw.get("duplicates", [])):
        nobody = sorted(set(group) - {row.record["subject_id"] for row in rows})
        if nobody:
            problems.append(f"/duplicates/{number}: {nobody} are no subjects of any record; correct the names")
    folds = folds_of(rows)
    given = sorted({fold for numbers in folds.values() for fold in numbers if fold is not None})
    for fold, order in raw.get("labelled_order", {}).items():
        if int(fold) not in given:
            problems.append(f"/labelled_order/{fold}: there must be records of fold {fold}, got {given}")
        elif Counter(order) != Counter(subject for subject, numbers in folds.items() if int(fold) not in numbers):
            wish = f"every subject of the other folds once; it names {len(order)}, {len(set(order))} of them different"
            problems.append(f"/labelled_order/{fold}: must name {wish}")
    return problems
