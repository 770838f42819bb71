"""Contours of an RTSTRUCT, drawn on the grid of the image that they belong to."""

from __future__ import annotations

import logging
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydicom
from pydicom.errors import InvalidDicomError
from skimage.draw import polygon2mask

from medssl.readers.faults import ScanError

logger = logging.getLogger(__name__)

OFF = 0.2  # of a slice: how far contours may lie off it
FEW = 2 / 3  # of the slices that a region spans: fewer have contours where these were drawn for other slices
# What pydicom raises, and what is not there, where a file ends too early.
CUT_OFF = (EOFError, OSError, ValueError, AttributeError, KeyError, struct.error)


@dataclass(frozen=True)
class RTStruct:
    """What an RTSTRUCT holds.

    Attributes:
        file: that it was read from.
        series: ``SeriesInstanceUID`` of the images that it was drawn on, as far as it says.
        contours: by name, of every region that has any, the closed ones, points :math:`(n, 3)` each, mm, in the
            patient's axes (LPS). Several regions may have one name.
    """

    file: Path
    series: frozenset[str]
    contours: dict[str, list[list[np.ndarray]]]

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
            ScanError: if the contours of a region lie between or across the slices, leave out many of them, or do not
                cover a voxel.
        """
        to_voxels = np.linalg.inv(affine) @ np.diag([-1.0, -1.0, 1.0, 1.0])  # from LPS
        drawn = np.zeros(tuple(shape), dtype=bool)
        for name in names:
            for contours in self.contours[name]:
                polygons = [points @ to_voxels[:3, :3].T + to_voxels[:3, 3] for points in contours]
                drawn |= self.draw_region(name, polygons, drawn.shape)
        return drawn

    def draw_region(self, name: str, polygons: Sequence[np.ndarray], shape: tuple[int, ...]) -> np.ndarray:
        """Draw one region whose points are counted in voxels."""
        axis = int(np.max([np.ptp(points, axis=0) for points in polygons], axis=0).argmin())
        slices = [round(float(points[:, axis].mean())) for points in polygons]
        off = max(np.abs(points[:, axis] - number).max() for points, number in zip(polygons, slices, strict=True))
        span = max(slices) - min(slices) + 1
        if off > OFF:
            raise ScanError("grid", self.file, f"contours of {name!r} lie {off:.2g} slices off those of the image")
        if len(set(slices)) < FEW * span:
            came = f"{len(set(slices))} of the {span} slices that it spans"
            raise ScanError("grid", self.file, f"{name!r} must have contours in all slices, it has them in {came}")
        if beyond := sum(not 0 <= number < shape[axis] for number in slices):
            logger.warning("%s: %d of %d contours of %r lie beyond the image", self.file, beyond, len(slices), name)
        region = np.zeros(shape, dtype=bool)
        planes = np.moveaxis(region, axis, 0)  # a view
        for number, points in zip(slices, polygons, strict=True):
            if 0 <= number < shape[axis]:
                planes[number] ^= polygon2mask(planes.shape[1:], np.delete(points, axis, axis=1))
        if not region.any():
            raise ScanError("grid", self.file, f"the contours of {name!r} do not cover a voxel of the image")
        return region


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


def closed_contours(header: pydicom.Dataset) -> dict[str, list[list[np.ndarray]]]:
    """Return the closed contours of every region that has any; one that stands twice would undo itself."""
    names = {region.ROINumber: str(region.ROIName) for region in header.get("StructureSetROISequence", [])}
    contours: dict[str, list[list[np.ndarray]]] = {}
    for region in header.get("ROIContourSequence", []):
        closed = [
            np.array(contour.ContourData, dtype=float).reshape(-1, 3)
            for contour in region.get("ContourSequence", [])
            if contour.ContourGeometricType in ("CLOSED_PLANAR", "CLOSEDPLANAR_XOR")
        ]
        if closed:
            once = {points.tobytes(): points for points in closed}
            contours.setdefault(names[region.ReferencedROINumber], []).append(list(once.values()))
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
    except (InvalidDicomError, *CUT_OFF):
        return False
