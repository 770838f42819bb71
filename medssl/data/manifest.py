"""What a data set is: one JSON file, checked in one place, every problem named at once."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from medssl.data.manifest_checks import SECTIONS, Record, check, parse, readable
from medssl.resources import resource


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
        training, validation, test, unlabeled: records with ``case_id``, ``subject_id``, ``image`` and, where there is
            one, ``label``.
        duplicates: groups of subjects that are one scan under several names.
        overlaps: names of data sets that share scans with this one.
        sha256: of the manifest file.
        num_labelled: numbers of labelled subjects that papers compare methods with; None for all.
        labelled_order: for a fold, the order in which a reference took its labelled subjects.
        expected: what the data should turn out to be, for :py:func:`medssl.inspection.inspect`.
        label_policy: ``"drop"`` or ``"ignore"`` for ids in the files that are no labels; ``"other"`` means all of them.
        assume_affine: whether scans whose headers do not say how they lie in space are used.
        root: folder that the records' paths started from, but for labels beside the manifest.
        path: of the manifest file.
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
    overlaps: list[str] = field(default_factory=list)
    sha256: str = ""
    num_labelled: list[int | None] = field(default_factory=list)
    labelled_order: dict[int, list[str]] = field(default_factory=dict)
    label_policy: dict[str, str] = field(default_factory=dict)
    expected: dict[str, Any] = field(default_factory=dict)
    assume_affine: bool = False
    root: Path = Path()
    path: Path = Path()

    @property
    def num_classes(self) -> int:
        """Number of classes, background included."""
        return max(self.labels) + 1

    @property
    def subjects(self) -> set[str]:
        """All subjects, of whatever section."""
        return {record["subject_id"] for section in SECTIONS for record in getattr(self, section)}

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
        check_files: also look whether the files are there, and whether one scan stands under two names.

    Raises:
        ManifestError: listing every problem.
        FileNotFoundError: if there is no such manifest.
    """
    manifest, problems = read_manifest(path, root, check_files)
    if problems or manifest is None:
        raise ManifestError(find(path), problems)
    return manifest


def read_manifest(
    path: str | Path, root: str | Path | None = None, check_files: bool = True
) -> tuple[Manifest | None, list[str]]:
    """Return a manifest, or None where its records cannot be told, and every problem; see :py:func:`load_manifest`.

    Raises:
        FileNotFoundError: if there is no such manifest.
    """
    file = find(path)
    base = Path(root) if root is not None else file.parent
    text = file.read_bytes()
    raw, problems = parse(text)
    if not isinstance(raw, dict):
        return None, problems
    roots = {"image": base, "label": file.parent if raw.get("labels_beside_manifest") is True else base}
    problems += check(raw, roots, check_files)
    if problems and not readable(raw, roots):
        return None, problems
    absolute = {section: [located(record, roots) for record in raw.get(section, [])] for section in SECTIONS}
    manifest = Manifest(
        name=raw["name"],
        labels={int(label): name for label, name in raw["labels"].items()},
        slice_axis=raw["slice_axis"],
        spacing=tuple(raw["spacing"]),
        window=raw["window"],
        duplicates=raw.get("duplicates", []),
        overlaps=raw.get("overlaps", []),
        sha256=hashlib.sha256(text).hexdigest(),
        num_labelled=raw.get("num_labelled", []),
        labelled_order={int(fold): order for fold, order in raw.get("labelled_order", {}).items()},
        label_policy=raw.get("label_policy", {}),
        expected=raw.get("expected", {}),
        assume_affine=raw.get("assume_affine", False),
        root=base,
        path=file,
        **absolute,
    )
    return manifest, problems


def find(path: str | Path) -> Path:
    """Return the file that a path or the name of a shipped manifest stands for."""
    file = Path(path)
    if file.is_file():
        return file
    if file.is_dir():
        there = next((name for name in ("manifest.json", "dataset.json") if (file / name).is_file()), None)
        wish = f"give its {file / there}" if there else "make one of it with python -m medssl manifest scan"
        raise FileNotFoundError(f"a manifest is a file, got the folder {file}; {wish}.")
    if file.suffix == "" and file.name == str(path):
        try:
            return resource(f"data_manifests/{path}.json")
        except FileNotFoundError:
            shipped = sorted(p.stem for p in resource("data_manifests").glob("*.json") if p.stem != "schema")
            raise FileNotFoundError(f"no manifest {str(path)!r}; medssl ships {', '.join(shipped)}.") from None
    raise FileNotFoundError(f"no manifest at {file}; correct the path.")


def located(record: Record, roots: Mapping[str, Path]) -> Record:
    """Return the record with absolute paths."""
    return {**record, **{key: str((roots[key] / record[key]).absolute()) for key in roots if key in record}}
