"""All that is wrong with a data set, told before the first hour is spent on it."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, as_completed
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

from tqdm.auto import tqdm

from medssl import __version__, atomic
from medssl.data import Manifest
from medssl.data.manifest import read_manifest
from medssl.data.manifest_checks import SECTIONS
from medssl.inspection.case import Case, Finding, inspect_case
from medssl.readers import KINDS

LAYOUT = 3  # of a case's file and of what is looked at


@dataclass(frozen=True)
class Inspection:
    """What was found in a data set.

    Attributes:
        name: of the data set.
        cases: one for every record that could be told from the manifest.
        of_the_set: findings that are no single case's.
    """

    name: str
    cases: list[Case]
    of_the_set: list[Finding]

    @property
    def findings(self) -> list[Finding]:
        """All findings, what stops a case first."""
        every = [*self.of_the_set, *(finding for case in self.cases for finding in case.findings)]
        return sorted(every, key=lambda finding: not finding.stops)

    @property
    def sound(self) -> bool:
        """Whether nothing stops a case."""
        return not any(finding.stops for finding in self.findings)


def inspect(
    path: str | Path,
    output: str | Path,
    executor: Executor,
    root: str | Path | None = None,
    against: Sequence[str | Path] = (),
    headers: bool = False,
) -> Inspection:
    """Check a manifest, and read every file that it names to the end.

    Cases that were looked at before are not read again where neither they nor the manifest have changed.

    Args:
        path: of the manifest, or the name of one that comes with medssl.
        output: folder for a file per case, by which an inspection goes on where it was stopped.
        executor: runs the cases.
        root: folder that the manifest's paths start from; default: its own.
        against: ``inspection.json`` of other data sets, whose scans are looked for among these.
        headers: look at headers and lengths alone, which takes milliseconds a case and leaves damage within the voxels,
            their range, labels and duplicates for later.

    Raises:
        FileNotFoundError: if there is no such manifest or other inspection.
        ValueError: if another inspection is of an older version, or of headers.
    """
    others = [read_other(file) for file in against]
    manifest, problems = read_manifest(path, root, check_files=False)
    of_the_set = [Finding("manifest", "", "", problem) for problem in problems]
    if manifest is None:
        return Inspection(Path(path).stem, [], of_the_set)
    cases = list(inspect_cases(manifest, Path(output) / "cases", executor, headers))
    by_name = {case.case_id: case for case in cases}
    for finding in [*duplicates(cases, manifest), *overlaps(cases, others), *unexpected(cases, manifest)]:
        (by_name[finding.case_id].findings if finding.case_id else of_the_set).append(finding)
    return Inspection(manifest.name, cases, of_the_set)


def inspect_cases(manifest: Manifest, folder: Path, executor: Executor, headers: bool) -> Iterator[Case]:
    """Yield all cases in the manifest's order, those of an earlier call from their files."""
    # Sent along with every case.
    bare = replace(manifest, training=[], validation=[], test=[], unlabeled=[], labelled_order={})
    records = [(section, record) for section in SECTIONS for record in getattr(manifest, section)]
    futures = {}
    for section, record in records:
        file = folder / f"{quote(record['case_id'], safe='')}.json"
        stamp = [headers, *stamp_of(record, section, manifest)]
        if not file.is_file() or json.loads(file.read_text(encoding="utf-8"))["stamp"] != stamp:
            futures[executor.submit(inspect_case, record, section, bare, headers)] = file, stamp
    bar = tqdm(total=len(records), initial=len(records) - len(futures), desc="inspecting", unit="case")
    for future in as_completed(futures):
        file, stamp = futures[future]
        text = json.dumps({"stamp": stamp, "case": future.result().to_json()})
        atomic.replace(file, partial(Path.write_text, data=text, encoding="utf-8"))
        bar.update()
    bar.close()
    for _, record in records:
        text = (folder / f"{quote(record['case_id'], safe='')}.json").read_text(encoding="utf-8")
        yield Case.from_json(json.loads(text)["case"])


def stamp_of(record: dict[str, Any], section: str, manifest: Manifest) -> list[Any]:
    """Return what a case's findings depend on."""
    files = [Path(record[key]) for key in ("image", "label") if key in record]
    parts = [sorted(file.iterdir()) if file.is_dir() else [file] for file in files]  # a DICOM series is a folder
    states = [[part.stat().st_size, part.stat().st_mtime_ns] for each in parts for part in each if part.exists()]
    return [LAYOUT, __version__, manifest.sha256, section, record, states]


def duplicates(cases: Sequence[Case], manifest: Manifest) -> Iterator[Finding]:
    """Find scans whose voxels are equal, unless their subjects are declared to be one."""
    same = defaultdict(list)
    for case in cases:
        same[case.voxels].append(case)
    for voxels, group in same.items():
        subjects = {case.subject_id for case in group}
        if voxels and len(group) > 1 and not any(subjects <= set(declared) for declared in manifest.duplicates):
            text = f"{', '.join(case.case_id for case in group)} hold the same voxels; {KINDS['duplicate'].remedy}"
            yield from (Finding("duplicate", case.case_id, "", text) for case in group)


def read_other(file: str | Path) -> dict[str, Any]:
    """Return ``inspection.json`` of another data set, if it has voxels to compare."""
    other: dict[str, Any] = json.loads(Path(file).read_text(encoding="utf-8"))
    if other.get("layout") != LAYOUT or not any(case["voxels"] for case in other["cases"]):
        raise ValueError(f"{file} has no voxels to compare: inspect {other['name']} again, not by headers alone.")
    return other


def overlaps(cases: Sequence[Case], others: Sequence[dict[str, Any]]) -> Iterator[Finding]:
    """Find scans that stand in other data sets too."""
    for other in others:
        theirs = {case["voxels"]: case["case_id"] for case in other["cases"] if case["voxels"]}
        for case in cases:
            if case.voxels in theirs:
                text = f"it is {theirs[case.voxels]} of {other['name']} too; {KINDS['overlap'].remedy}"
                yield Finding("overlap", case.case_id, "", text)


def unexpected(cases: Sequence[Case], manifest: Manifest) -> Iterator[Finding]:
    """Find what is not as the manifest's ``expected`` says."""
    expected = manifest.expected
    counts = {"n_cases": len(cases), "n_subjects": len({case.subject_id for case in cases})}
    for key, count in counts.items():
        if key in expected and expected[key] != count:
            yield Finding("expected", "", "", f"{key} is {count}, expected are {expected[key]}")
    for case in cases:
        if case.case_id in expected.get("known_bad", []):
            yield Finding("expected", case.case_id, "", "the case is known to be bad; leave it out")
        facts = case.facts
        if facts and "axcodes" in expected and facts["axes"] not in expected["axcodes"]:
            text = f"its axes are {facts['axes']}, expected are {', '.join(expected['axcodes'])}"
            yield Finding("expected", case.case_id, "", text)
        if facts and "slices" in expected and not expected["slices"][0] <= facts["slices"] <= expected["slices"][1]:
            text = f"it has {facts['slices']} slices, expected are {' to '.join(map(str, expected['slices']))}"
            yield Finding("expected", case.case_id, "", text)
        if "spacing" in facts and "spacing_mm" in expected:
            low, high = expected["spacing_mm"]
            if any(not a - 0.01 <= side <= b + 0.01 for a, side, b in zip(low, facts["spacing"], high, strict=True)):
                text = f"its voxels are {facts['spacing']} mm, expected are {low} to {high}"
                yield Finding("expected", case.case_id, "", text)
