"""Records from the files of a folder, by the pattern of their names."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from medssl.data.manifest_checks import Record

FIELD = re.compile(r"\{(\w+)\}")


def scan_folder(root: str | Path, pattern: str, label: str | None = None) -> dict[str, list[Record]]:
    """Return the records of a folder's scans, those with a label for ``training``, the others ``unlabeled``.

    Args:
        root: folder that paths start from.
        pattern: of the images, with a field for every part that differs, such as
            ``"{subject}/{subject}_frame{frame}.nii.gz"``; a field does not reach over a slash, and is the same wherever
            it stands twice. A pattern that ends in a slash names folders, those of DICOM series.
        label: pattern of the labels, of fields of the images' alone.

    Returns:
        Records with ``case_id``, the field ``case`` or all fields in order; ``subject_id``, the field ``subject`` or
        the case; and paths, sorted by case.

    Raises:
        FileNotFoundError: if there is no such folder, or nothing in it fits.
        ValueError: for a pattern without a field, or a label's field that the images do not have; if two scans have
            one case_id, or labels are there that belong to no image.
    """
    root = Path(root)
    if not root.is_dir():
        raise FileNotFoundError(f"no folder {root.absolute()}; give the one that the scans lie in.")
    fields = list(dict.fromkeys(FIELD.findall(pattern)))
    if not fields:
        raise ValueError(f"a pattern must have a field, such as {{case}}.nii.gz, got {pattern!r}.")
    if strange := sorted(set(FIELD.findall(label or "")) - set(fields)):
        raise ValueError(f"the label's pattern may use {', '.join(fields)}, got {', '.join(strange)}.")
    found = [(path, match.groupdict()) for path in paths(root, pattern) if (match := fit(pattern, path))]
    masks = {label.format(**values) for _, values in found} if label else set()
    found = [(path, values) for path, values in found if path not in masks]  # some fit the images' pattern as well
    if not found:
        raise FileNotFoundError(f"nothing in {root.absolute()} fits {pattern!r}; it holds {examples(root)}.")
    records: dict[str, list[Record]] = {"training": [], "unlabeled": []}
    taken: dict[str, str] = {}
    for path, values in sorted(found, key=lambda pair: natural(pair[0])):
        case = values.get("case") or "_".join(values[field] for field in fields)
        if case in taken:
            raise ValueError(f"{taken[case]} and {path} would both be case {case!r}; give the pattern another field.")
        taken[case] = path
        record: Record = {"case_id": case, "subject_id": values.get("subject", case), "image": path}
        mask = label.format(**values) if label else None
        if mask is not None and (root / mask).exists():
            record["label"] = mask
        records["training" if "label" in record else "unlabeled"].append(record)
    if label is not None:
        used = {record["label"] for record in records["training"]}
        if lost := sorted({path for path in paths(root, label) if fit(label, path)} - used):
            raise ValueError(
                f"{len(lost)} labels belong to no image, such as {lost[0]}; correct the patterns, or move them away."
            )
    return records


def paths(root: Path, pattern: str) -> list[str]:
    """Return the paths below a folder that a pattern may name, files or, where it ends in a slash, folders."""
    wanted = Path.is_dir if pattern.endswith("/") else Path.is_file
    every = (path for path in root.rglob("*") if not any(part.startswith(".") for part in path.relative_to(root).parts))
    return [path.relative_to(root).as_posix() for path in every if wanted(path)]


def fit(pattern: str, path: str) -> re.Match[str] | None:
    """Match a path with a pattern, a group for every field."""
    seen: set[str] = set()
    expression = ""
    for number, part in enumerate(FIELD.split(pattern.rstrip("/"))):
        if number % 2 == 0:
            expression += re.escape(part)
        else:
            expression += f"(?P={part})" if part in seen else f"(?P<{part}>[^/]+?)"
            seen.add(part)
    return re.fullmatch(expression, path)


def natural(path: str) -> list[Any]:
    """Return what sorts names with numbers as people do."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", path)]


def examples(root: Path) -> str:
    """Return a few of the paths below a folder."""
    found = sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())
    return ", ".join(found[:3]) + (f" and {len(found) - 3} more" if len(found) > 3 else "") if found else "no file"
