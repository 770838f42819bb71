"""An inspection as a page, as JSON and as text."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from jinja2 import Environment, PackageLoader

from medssl import __version__, atomic
from medssl.inspection.data_set import LAYOUT, Inspection
from medssl.readers import KINDS

KEPT = ("case_id", "subject_id", "section", "facts", "voxels")  # of a case, beside the findings


def write_page(inspection: Inspection, folder: str | Path) -> Path:
    """Write ``inspection.json`` and ``inspection.html``, one file that needs no other, into a folder.

    Returns:
        Path of the page.
    """
    folder = Path(folder)
    facts = {
        "medssl": __version__,
        "layout": LAYOUT,
        "name": inspection.name,
        "sound": inspection.sound,
        "findings": [vars(finding) | {"stops": finding.stops} for finding in inspection.findings],
        "cases": [{key: value for key, value in vars(case).items() if key in KEPT} for case in inspection.cases],
    }
    text = json.dumps(facts, indent=1, ensure_ascii=False)
    atomic.replace(folder / "inspection.json", lambda file: file.write_text(text, encoding="utf-8"))
    template = Environment(loader=PackageLoader("medssl.inspection", "."), autoescape=True).get_template("page.html")
    page = template.render(inspection=inspection, kinds=KINDS, counts=counts(inspection), version=__version__)
    atomic.replace(folder / "inspection.html", lambda file: file.write_text(page, encoding="utf-8"))
    return folder / "inspection.html"


def counts(inspection: Inspection) -> dict[str, int]:
    """Return how often every kind was found, what stops a case first."""
    found = Counter(finding.code for finding in inspection.findings)
    return {code: found[code] for code in sorted(KINDS, key=lambda code: not KINDS[code].stops) if found[code]}


def lines(inspection: Inspection) -> Iterator[str]:
    """Yield an inspection as text, a finding a line."""
    for finding in inspection.findings:
        file = "" if finding.file in finding.text else finding.file  # errors of transforms name it themselves
        text = ": ".join(part for part in (finding.case_id, file, finding.text) if part)
        yield f"{'refused' if finding.stops else 'note'} [{finding.code}] {text}"
    stopped = {finding.case_id for finding in inspection.findings if finding.stops}
    yield f"{inspection.name}: {len(inspection.cases)} cases, {len(stopped)} with something that stops them"
