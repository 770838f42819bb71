"""Contours of an RTSTRUCT, drawn on the grid of the image that they belong to."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydicom
from pydicom.errors import InvalidDicomError
from skimage.draw import polygon2mask

from medssl.readers.faults import ScanError

FLAT = 0.5  # of a slice: how far the points of one contour may lie apart along the slices
# What pydicom raises, and what is not there, where a file ends too early.
CUT_OFF = (EOFError, OSError, ValueError, AttributeError, KeyError, struct.error)


@dataclass(frozen=True)
class RTStruct:
    """What an RTSTRUCT holds.

    Attributes:
        file: that it was read from.
        series: ``SeriesInstanceUID`` of the images that it was drawn on, as far as it says.
        contours: of every region that has any, the closed ones, points :math:`(n, 3)` each, mm, in the patient's axes
            (LPS).
    """

    file: Path
    series: frozenset[str]
    contours: dict[str, list[np.ndarray]]

    def draw(self, names: Iterable[str], shape: Sequence[int], affine: np.ndarray) -> np.ndarray:
        """Draw regions on a grid.

        A voxel belongs to a region where its centre lies within an odd number of its contours: so is a contour within
        another one a hole.

        Args:
            names: of the regions; what any of them covers is drawn.
            shape: :math:`(X, Y, Z)` of the image.
            affine: of the image, in RAS, mm.

        Returns:
            Bool, :math:`(X, Y, Z)`.

        Raises:
            ScanError: if the contours of a region lie across slices, or none of them within the image.
        """
        to_voxels = np.linalg.inv(affine) @ np.diag([-1.0, -1.0, 1.0, 1.0])  # from LPS
        drawn = np.zeros(tuple(shape), dtype=bool)
        for name in names:
            polygons = [points @ to_voxels[:3, :3].T + to_voxels[:3, 3] for points in self.contours[name]]
            extents = np.max([np.ptp(points, axis=0) for points in polygons], axis=0)
            axis = int(extents.argmin())
            if extents[axis] > FLAT:
                raise ScanError("grid", self.file, f"contours of {name!r} lie across the slices of the image")
            slices = [round(float(points[:, axis].mean())) for points in polygons]
            if not any(0 <= number < shape[axis] for number in slices):
                raise ScanError("grid", self.file, f"the contours of {name!r} lie beside the image")
            region = np.zeros_like(drawn)
            planes = np.moveaxis(region, axis, 0)  # a view
            for number, points in zip(slices, polygons, strict=True):
                if 0 <= number < shape[axis]:
                    planes[number] ^= polygon2mask(planes.shape[1:], np.delete(points, axis, axis=1))
            drawn |= region
        return drawn


def read_rt_struct(file: str | Path) -> RTStruct:
    """Read an RTSTRUCT.

    Raises:
        ScanError: if it is none, cut off, or without a contour.
    """
    try:
        header = pydicom.dcmread(file)
        modality, series, contours = header.get("Modality"), drawn_on(header), closed_contours(header)
    except InvalidDicomError as error:
        raise ScanError("unreadable", file, "it is no DICOM file") from error
    except CUT_OFF as error:
        raise ScanError("damaged", file, f"it cannot be read to its end ({error})") from error
    if modality != "RTSTRUCT":
        raise ScanError("unreadable", file, f"it must be an RTSTRUCT, its modality is {modality}")
    if not contours:
        raise ScanError("damaged", file, "it holds no closed contour")
    return RTStruct(Path(file), frozenset(series), contours)


def closed_contours(header: pydicom.Dataset) -> dict[str, list[np.ndarray]]:
    """Return the closed contours of every region that has any."""
    names = {region.ROINumber: str(region.ROIName) for region in header.get("StructureSetROISequence", [])}
    contours: dict[str, list[np.ndarray]] = {}
    for region in header.get("ROIContourSequence", []):
        for contour in region.get("ContourSequence", []):
            if contour.ContourGeometricType in ("CLOSED_PLANAR", "CLOSEDPLANAR_XOR"):
                points = np.array(contour.ContourData, dtype=float).reshape(-1, 3)
                contours.setdefault(names[region.ReferencedROINumber], []).append(points)
    return contours


def drawn_on(header: pydicom.Dataset) -> set[str]:
    """Return the series of the images that the contours were drawn on."""
    return {
        str(series.SeriesInstanceUID)
        for frame in header.get("ReferencedFrameOfReferenceSequence", [])
        for study in frame.get("RTReferencedStudySequence", [])
        for series in study.get("RTReferencedSeriesSequence", [])
    }


def is_rt_struct(file: str | Path) -> bool:
    """Whether a file is an RTSTRUCT."""
    try:
        return bool(pydicom.dcmread(file, specific_tags=["Modality"]).get("Modality") == "RTSTRUCT")
    except (InvalidDicomError, OSError):
        return False
