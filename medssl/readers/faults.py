"""What can be wrong with a data set: one table, for errors, for inspection and for its page in the docs."""

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
    "manifest": Kind(True, "the manifest contradicts itself, its schema or its folder", "correct it as it says"),
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
    "intensities": Kind(
        True,
        "voxels are not finite, all the same, or none lies within the window",
        "repair the file, correct the window, or leave the case out",
    ),
    "grid": Kind(
        True, "image and label lie on different grids", "resample the label to the image, or take its own image"
    ),
    "labels": Kind(
        True,
        "a label map holds ids that are no classes, or fractions",
        "name them in the manifest's labels, or drop them in its label_policy; resample labels with mode nearest",
    ),
    "duplicate": Kind(True, "one scan stands under several names", "remove all but one, or declare duplicates"),
    "overlap": Kind(False, "a scan of another data set is among these", "name the other one in overlaps"),
    "support": Kind(
        False, "in some slices the image is there only where it was contoured", "leave the case out: it tells its label"
    ),
    "empty": Kind(False, "a label map holds nothing", "name what was contoured in known_classes, or move the case"),
    "thin": Kind(False, "a volume has a single slice", "nothing for 2-D methods; it makes no pair of slices"),
    "slice_axis": Kind(False, "the voxels are longest along another axis", "look whether slice_axis is right"),
    "window": Kind(False, "hardly any voxel lies within the window", "look whether window fits the modality and scale"),
    "header": Kind(False, "the header, or a file beside it, leaves something to guess", "look whether it is right"),
    "expected": Kind(False, "the manifest expects something else", "look whether this is the data set it describes"),
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

    def __reduce__(self) -> tuple[type[ScanError], tuple[str, str, str]]:
        """Let it cross from one process to another."""
        return ScanError, (self.code, self.file, self.reason)
