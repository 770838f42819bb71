"""What a data set is: one JSON file, checked in one place, every problem named at once."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
from jsonschema import Draft202012Validator

from medssl.resources import resource

Record = dict[str, Any]
SECTIONS = ("training", "validation", "test", "unlabeled")


class ManifestError(ValueError):
    """A manifest that cannot be used; ``problems`` holds everything that is wrong with it."""

    def __init__(self, path: Path, problems: list[str]) -> None:
        self.problems = problems
        count = f"{len(problems)} problem{'s' if len(problems) > 1 else ''}"
        super().__init__("\n".join([f"{path} cannot be used, {count}:", *(f"  - {problem}" for problem in problems)]))


@dataclass(frozen=True)
class Manifest:
    """A data set as its manifest describes it; records hold absolute paths.

    Attributes:
        name: of the data set.
        labels: name of every label, 0 the background.
        slice_axis: direction in which slices are numbered, see :py:class:`medssl.transforms.ResampleToSpacing`.
        spacing: (depth, height, width) to resample to, mm; None keeps the file's.
        window: arguments of :py:class:`medssl.transforms.Window`.
        training, validation, test, unlabeled: records with ``case_id``, ``subject_id``, ``image`` and, where there is one,
            ``label``.
        duplicates: groups of subjects that are one scan under several names.
        sha256: of the manifest file.
    """

    name: str
    labels: dict[int, str]
    slice_axis: str
    spacing: tuple[float | None, float | None, float | None]
    window: dict[str, Any]
    training: list[Record]
    validation: list[Record] = field(default_factory=list)
    test: list[Record] = field(default_factory=list)
    unlabeled: list[Record] = field(default_factory=list)
    duplicates: list[list[str]] = field(default_factory=list)
    sha256: str = ""

    @property
    def num_classes(self) -> int:
        """Number of classes, background included."""
        return max(self.labels) + 1

    def summary(self) -> str:
        """Describe the data set in a few lines."""
        sections = {name: getattr(self, name) for name in SECTIONS if getattr(self, name)}
        counts = pd.DataFrame(
            {
                "volumes": {name: len(records) for name, records in sections.items()},
                "subjects": {name: len({r["subject_id"] for r in records}) for name, records in sections.items()},
                "labelled": {name: sum("label" in r for r in records) for name, records in sections.items()},
            }
        )
        classes = ", ".join(f"{label} {name}" for label, name in self.labels.items())
        return f"{self.name}: {classes}\n{counts}"


def load_manifest(path: str | Path, root: str | Path | None = None, check_files: bool = True) -> Manifest:
    """Load a manifest and check all of it.

    Args:
        path: a JSON file, or the name of a manifest that comes with medssl, such as ``"acdc"``.
        root: folder that the records' paths start from; default: the manifest's own.
        check_files: also look whether the files are there.

    Raises:
        ManifestError: listing every problem.
        FileNotFoundError: if there is no such manifest.
    """
    file = find(path)
    text = file.read_bytes()
    problems: list[str] = []
    raw = parse(text, problems)
    if not problems:
        problems += broken_structure(raw)
    if problems:
        raise ManifestError(file, problems)
    base = Path(root) if root is not None else file.parent
    problems += [*wrong_names(raw), *wrong_paths(raw, base, check_files), *wrong_subjects(raw)]
    if problems:
        raise ManifestError(file, problems)
    absolute = {section: [located(record, base) for record in raw.get(section, [])] for section in SECTIONS}
    return Manifest(
        name=raw["name"],
        labels={int(label): name for label, name in raw["labels"].items()},
        slice_axis=raw["slice_axis"],
        spacing=tuple(raw["spacing"]),
        window=raw["window"],
        duplicates=raw.get("duplicates", []),
        sha256=hashlib.sha256(text).hexdigest(),
        **absolute,
    )


def find(path: str | Path) -> Path:
    """Return the file that a path or the name of a shipped manifest stands for."""
    file = Path(path)
    if file.is_file():
        return file
    if file.suffix == "" and file.name == str(path):
        try:
            return resource(f"data_manifests/{path}.json")
        except FileNotFoundError:
            shipped = sorted(p.stem for p in resource("data_manifests").glob("*.json") if p.stem != "schema")
            raise FileNotFoundError(f"no manifest {str(path)!r}; medssl ships {', '.join(shipped)}.") from None
    raise FileNotFoundError(f"no manifest at {file}.")


def parse(text: bytes, problems: list[str]) -> dict[str, Any]:
    """Parse JSON, noting what Python's parser lets pass: repeated keys and NaN."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        twice = [key for key, count in Counter(key for key, _ in pairs).items() if count > 1]
        problems.extend(f"key {key!r} stands twice in one object; keep one of them" for key in twice)
        return dict(pairs)

    def constant(literal: str) -> None:
        problems.append(f"{literal} is no JSON number; write null or a number")

    try:
        raw = json.loads(text, object_pairs_hook=unique, parse_constant=constant)
    except ValueError as error:
        problems.append(f"it is no JSON: {error}")
        return {}
    if not isinstance(raw, dict):
        problems.append(f"it must be a JSON object, got a {type(raw).__name__}")
        return {}
    return raw


def broken_structure(raw: dict[str, Any]) -> list[str]:
    """Compare with the schema: what is missing, of the wrong kind, or not allowed."""
    schema = json.loads(resource("data_manifests/schema.json").read_text(encoding="utf-8"))
    errors = sorted(Draft202012Validator(schema).iter_errors(raw), key=lambda error: list(map(str, error.absolute_path)))
    return [f"/{'/'.join(map(str, error.absolute_path))}: {explain(error)}" for error in errors]


def explain(error: Any) -> str:
    """Say what the schema wanted; a forbidden key is shown with its reason."""
    if "propertyNames" in error.absolute_schema_path:
        return f"key {error.instance!r} must not start with image_ or label_: MONAI's Spacingd takes it for metadata; rename it"
    return str(error.message)


def records(raw: dict[str, Any]) -> Iterator[tuple[str, Record]]:
    """Yield every record with its JSON pointer."""
    for section in SECTIONS:
        for number, record in enumerate(raw.get(section, [])):
            yield f"/{section}/{number}", record


def wrong_names(raw: dict[str, Any]) -> list[str]:
    """Case ids and files that are named more than once, labels that leave gaps, classes that do not exist."""
    problems = []
    for key in ("case_id", "image", "label"):
        places: dict[str, list[str]] = {}
        for pointer, record in records(raw):
            if key in record:
                places.setdefault(record[key], []).append(pointer)
        problems += [
            f"{', '.join(pointers)}: {key} {value!r} must stand once; it stands {len(pointers)} times"
            for value, pointers in places.items()
            if len(pointers) > 1
        ]
    labels = sorted(map(int, raw["labels"]))
    if labels != list(range(len(labels))):
        problems.append(f"/labels: ids must run from 0 without a gap, got {labels}")
    for pointer, record in records(raw):
        unknown = sorted(set(record.get("known_classes", [])) - set(labels))
        if unknown:
            problems.append(f"{pointer}: known_classes {unknown} are no labels; there are {labels}")
    return problems


def wrong_paths(raw: dict[str, Any], root: Path, check_files: bool) -> list[str]:
    """Paths that leave the root or lead nowhere."""
    problems = []
    base = root.resolve()
    for pointer, record in records(raw):
        for key in ("image", "label"):
            if key not in record:
                continue
            path = Path(record[key])
            if path.is_absolute() or not (base / path).resolve().is_relative_to(base):
                problems.append(f"{pointer}/{key}: {record[key]!r} must be a relative path inside the data folder")
            elif check_files and not (base / path).is_file():
                problems.append(f"{pointer}/{key}: no file {record[key]!r} below {root}; correct the path or the root")
    return problems


def wrong_subjects(raw: dict[str, Any]) -> list[str]:
    """Subjects on both sides of a split, and folds that are incomplete."""
    problems = []
    subjects = {name: {record["subject_id"] for record in raw.get(name, [])} for name in SECTIONS}
    for section in ("validation", "test"):
        shared = sorted((subjects["training"] | subjects["unlabeled"]) & subjects[section])
        if shared and not raw.get("transductive", False):
            problems.append(f"/{section}: subjects {shared} are also trained on; move them, or declare transductive true")
    folds: dict[str, set[Any]] = {}
    for record in raw["training"]:
        folds.setdefault(record["subject_id"], set()).add(record.get("fold"))
    problems += [f"/training: subject {s!r} is in folds {sorted(map(str, f))}; keep it in one" for s, f in folds.items() if len(f) > 1]
    given = {fold for numbers in folds.values() for fold in numbers}
    if None in given and len(given) > 1:
        problems.append("/training: some records name a fold and some do not; give all of them one, or none")
    return problems


def located(record: Record, root: Path) -> Record:
    """Return the record with absolute paths."""
    return {**record, **{key: str((root / record[key]).absolute()) for key in ("image", "label") if key in record}}
