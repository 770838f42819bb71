"""What can be wrong with scans and labels: one table, for errors, for inspection and for its page in the docs."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple


class Kind(NamedTuple):
    """A kind of fault.

    Attributes:
        stops: whether what has it is refused; the others are told, and used.
        meaning: what is wrong.
        remedy: what to do about it.
    """

    stops: bool
    meaning: str
    remedy: str


KINDS = {
    "missing": Kind(True, "there is no such file", "correct the path, or the root that it starts from"),
    "unreadable": Kind(
        True, "the file is no scan, or of a format that is not read", "convert it to NIfTI, or leave the case out"
    ),
    "damaged": Kind(True, "the file is cut off, or does not hold what was written", "copy it from its source again"),
    "too_large": Kind(
        True, "the header promises more voxels than a scan has", "leave the case out, or resample it before"
    ),
    "not_a_volume": Kind(
        True, "there are not three axes of real numbers", "give the record a frame, or split, convert or leave it out"
    ),
    "geometry": Kind(
        True, "the affine is broken, flat or sheared", "repair the header, or resample to a grid at right angles"
    ),
    "series": Kind(
        True,
        "slices of a DICOM series are missing, repeated or tilted, or there are several series",
        "complete the series, or keep each in a folder of its own",
    ),
    "intensities": Kind(True, "voxels are not finite, or all the same", "repair the file, or leave the case out"),
}


class ScanError(ValueError):
    """A scan that cannot be used.

    Args:
        code: which kind of fault, a key of :py:data:`KINDS`.
        file: of the scan.
        reason: what came, and what was wanted.
    """

    def __init__(self, code: str, file: str | Path, reason: str) -> None:
        self.code, self.file, self.reason = code, str(file), reason
        super().__init__(f"{file}: {reason}; {KINDS[code].remedy}.")
