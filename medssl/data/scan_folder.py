"""Records from the files of a folder, by the pattern of their names."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from medssl.data.manifest_checks import Record
from medssl.readers.dicom_series import holds_images
from medssl.readers.rt_struct import is_rt_struct

logger = logging.getLogger(__name__)

LABELS_FOLDER = "medssl_labels"  # where label maps are written that medssl.data.label_maps makes
FIELD = re.compile(r"\{(\w+)(?::((?:[^{}]|\{[^{}]*\})+))?\}")
TOKEN = re.compile(rf"{FIELD.pattern}|\*\*/|\*|.")
HIDDEN = re.compile(rf"\.|__MACOSX$|{LABELS_FOLDER}$")
ORGAN = "organ"  # the field of a label's pattern that tells the files of one case apart


def scan_folder(root: str | Path, pattern: str, label: str | None = None) -> dict[str, list[Record]]:
    r"""Return the records of a folder's scans, those with a label for ``training``, the others ``unlabeled``.

    Args:
        root: folder that paths start from.
        pattern: of the images, with a field for every part that differs, such as
            ``"{subject}/{subject}_frame{frame}.nii.gz"``. A field does not reach over a slash, and is the same wherever
            it stands twice; a regular expression after a colon narrows it, the label's too: ``{case:ct_\d+}``. A ``*``
            stands for anything but a slash, ``**/`` for any folders or none. A pattern that ends in a slash names
            folders, those of DICOM series; folders of other things, such as RTSTRUCT, are passed over.
        label: pattern of the labels, of fields of the images' alone. With a field ``{organ}`` besides it names a file
            for every organ; one that ends in ``.dcm`` RTSTRUCT, one that ends in a slash folders of slices: these are
            for :py:func:`medssl.data.label_maps.join_labels`.

    Returns:
        Records with ``case_id``, of the fields ``subject`` and ``case``, without the latter of all fields in order;
        ``subject_id``, the field ``subject`` or the case; and paths, sorted by case, those of labels by organ where
        there is a file for each.

    Raises:
        FileNotFoundError: if there is no such folder, or nothing in it fits.
        ValueError: for a pattern without a field, or a label's field that the images do not have; if two scans have
            one case_id, a case has two labels, or there are labels, and none of them belongs to an image.
    """
    root = Path(root)
    if not root.is_dir():
        raise FileNotFoundError(f"no folder {root.absolute()}; give the one that the scans lie in.")
    fields = fields_of(pattern)
    if not fields:
        raise ValueError(f"a pattern must have a field, such as {{case}}.nii.gz, got {pattern!r}.")
    if strange := sorted(set(fields_of(label or "")) - {*fields, ORGAN}):
        raise ValueError(f"the label's pattern may use {', '.join(fields)}, got {', '.join(strange)}.")
    every = list_paths(root)
    narrowed = dict(pair for pair in FIELD.findall(f"{pattern} {label}") if pair[1])
    labels = find_labels(root, every, label, narrowed) if label is not None else {}
    if label is not None and not labels:
        logger.warning("no label in %s fits %r", root.absolute(), label)
    masks = {path for of_case in labels.values() for path in of_case.values()}
    found = [(path, values) for path, values in matches(every, pattern, narrowed) if path not in masks]
    if pattern.endswith("/"):
        found = [(path, values) for path, values in found if holds_images(root / path)]
    if not found:
        raise FileNotFoundError(f"nothing in {root.absolute()} fits {pattern!r}; it holds {examples(root)}.")
    records: dict[str, list[Record]] = {"training": [], "unlabeled": []}
    taken: dict[str, str] = {}
    used = set()
    for path, values in sorted(found, key=lambda pair: natural(pair[0])):
        case = "_".join(values[field] for field in ("subject", "case") if field in values)
        case = case if "case" in values else "_".join(values[field] for field in fields)
        if case in taken:
            raise ValueError(f"{taken[case]} and {path} would both be case {case!r}; give the pattern another field.")
        taken[case] = path
        record: Record = {"case_id": case, "subject_id": values.get("subject", case), "image": path}
        if of_case := labels.get(key_of(values, label)):
            record["label"] = of_case.get("") or of_case
            used.add(key_of(values, label))
        records["training" if "label" in record else "unlabeled"].append(record)
    if lost := sorted(path for key, of_case in labels.items() if key not in used for path in of_case.values()):
        text = f"{len(lost)} labels belong to no image, such as {lost[0]}"
        if not used:
            raise ValueError(f"{text}; correct the patterns.")
        logger.warning(text)
    return records


def find_labels(root: Path, every: list[str], label: str, narrowed: Mapping[str, str]) -> dict[Any, dict[str, str]]:
    """Return the label files of every case, by organ; the key of a single one is empty."""
    found: dict[Any, dict[str, str]] = {}
    for path, values in matches(every, label, narrowed):
        if label.endswith(".dcm") and not is_rt_struct(root / path):
            continue
        of_case, organ = found.setdefault(key_of(values, label), {}), values.get(ORGAN, "")
        if organ in of_case:
            raise ValueError(f"{of_case[organ]} and {path} would both be the label of one case; narrow the pattern.")
        of_case[organ] = path
    return found


def key_of(values: Mapping[str, str], label: str | None) -> tuple[str, ...]:
    """Return what the image and the label of a case have in common."""
    return tuple(values[field] for field in fields_of(label or "") if field != ORGAN)


def fields_of(pattern: str) -> list[str]:
    """Return the names of a pattern's fields, in order."""
    return list(dict.fromkeys(name for name, _ in FIELD.findall(pattern)))


def list_paths(root: Path) -> list[str]:
    """Return all paths below a folder, of folders with a slash at their end, but for what file systems hide."""
    found, seen = [], set()
    for folder, folders, files in os.walk(root, followlinks=True):
        folders[:] = [name for name in folders if not HIDDEN.match(name)]
        if (place := os.path.realpath(folder)) in seen:  # links may lead in circles
            folders.clear()
            continue
        seen.add(place)
        found += [Path(folder, name).relative_to(root).as_posix() for name in files if not HIDDEN.match(name)]
        found += [f"{Path(folder, name).relative_to(root).as_posix()}/" for name in folders]
    return found


def matches(paths: list[str], pattern: str, narrowed: Mapping[str, str]) -> list[tuple[str, dict[str, str]]]:
    """Return the paths that fit a pattern, folders without their slash, with the values of its fields."""
    try:
        expression = re.compile(regular(pattern, narrowed))
    except re.error as error:
        raise ValueError(f"the regular expressions of {pattern!r} cannot be read: {error}.") from error
    return [(path.rstrip("/"), found.groupdict()) for path in paths if (found := expression.fullmatch(path))]


def regular(pattern: str, narrowed: Mapping[str, str]) -> str:
    """Return a pattern as a regular expression, a group for every field."""
    seen: set[str] = set()
    expression = ""
    for token in (match[0] for match in TOKEN.finditer(pattern)):
        if field := FIELD.fullmatch(token):
            name = field[1]
            expression += f"(?P={name})" if name in seen else f"(?P<{name}>{narrowed.get(name, '[^/]+?')})"
            seen.add(name)
        else:
            expression += {"**/": "(?:.*/)?", "*": "[^/]*"}.get(token, re.escape(token))
    return expression


def natural(path: str) -> list[Any]:
    """Return what sorts names with numbers as people do."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", path)]


def examples(root: Path) -> str:
    """Return a few of the paths below a folder."""
    found = sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())
    return ", ".join(found[:3]) + (f" and {len(found) - 3} more" if len(found) > 3 else "") if found else "no file"
