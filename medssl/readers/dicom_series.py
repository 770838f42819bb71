"""The files of one DICOM series, in order, and whether they are all there."""

from __future__ import annotations

import struct
from collections import Counter
from pathlib import Path

import numpy as np
import pydicom
from pydicom.errors import InvalidDicomError

from medssl.readers.faults import ScanError

UNEVEN = 0.1  # of a slice's distance: positions are rounded in many headers, a missing slice is a whole one
NO_IMAGES = ("RTSTRUCT", "RTPLAN", "RTDOSE", "SEG", "SR", "PR", "KO", "REG")  # modalities that may lie beside a series
TILT = 2e-3  # off the normal for each mm along it


def series_files(folder: Path) -> list[Path]:
    """Return the image files of the one series in a folder, sorted along the normal of its slices.

    Every file is read to its end. What is no image, such as an RTSTRUCT, is passed over.

    Raises:
        ScanError: if there is no series, or several; if a file is cut off; if slices differ in shape or direction, are
            missing, repeated, or stacked at a tilt.
    """
    images = {file: header for file in sorted(folder.iterdir()) if (header := image_header(file))}
    if not images:
        raise ScanError("unreadable", folder, "there is no DICOM image in the folder")
    series = Counter(str(header.get("SeriesInstanceUID")) for header in images.values())
    if len(series) > 1:
        listed = ", ".join(f"{uid} ({count} files)" for uid, count in series.items())
        raise ScanError("series", folder, f"there must be one series, there are {len(series)}: {listed}")
    if len(images) == 1:
        return list(images)
    if not all("ImagePositionPatient" in header for header in images.values()):
        raise ScanError("series", folder, f"there must be one file of several frames, there are {len(images)}")
    directions = np.array([header.ImageOrientationPatient for header in images.values()], dtype=float)  # (n, 6)
    shapes = {(header.Rows, header.Columns) for header in images.values()}
    if len(shapes) > 1 or np.abs(directions - directions[0]).max() > 1e-4:
        raise ScanError("series", folder, f"slices must be alike, shapes are {sorted(shapes)}, or directions differ")
    normal = np.cross(directions[0, :3], directions[0, 3:])
    positions = np.array([header.ImagePositionPatient for header in images.values()], dtype=float)  # (n, 3)
    order = np.argsort(positions @ normal)
    steps = np.diff(positions[order], axis=0)  # (n - 1, 3)
    along = steps @ normal
    distance = float(np.median(along))
    if repeated := int((along <= UNEVEN * distance).sum()):
        raise ScanError("series", folder, f"{repeated} of {len(images)} slices lie where another one does")
    if np.abs(along - distance).max() > UNEVEN * distance:
        widest = f"{along.min():.3g} to {along.max():.3g} mm"
        raise ScanError(
            "series", folder, f"slices must lie {distance:.3g} mm apart as most do, they lie {widest} apart"
        )
    tilt = np.linalg.norm((steps - along[:, None] * normal).sum(axis=0)) / along.sum()
    if tilt > TILT:
        raise ScanError(
            "series", folder, f"slices are stacked {np.degrees(np.arctan(tilt)):.1f} degrees off their normal"
        )
    files = list(images)
    return [files[number] for number in order]


def holds_images(folder: Path) -> bool:
    """Whether a folder holds DICOM images, by the first headers alone."""
    return any(is_image(file) for file in sorted(folder.iterdir()))


def is_image(file: Path) -> bool:
    """Whether a file is a DICOM image, whole or not."""
    try:
        header = pydicom.dcmread(file, stop_before_pixels=True, specific_tags=["Modality", "Rows"])
    except (InvalidDicomError, OSError, struct.error):  # the last where it is cut off
        return False
    return "Rows" in header and header.get("Modality") not in NO_IMAGES


def image_header(file: Path) -> pydicom.Dataset | None:
    """Return what a DICOM file says of its image, or None where it holds none."""
    if not file.is_file():
        return None
    try:
        header = pydicom.dcmread(file)
        pixels = header.get("PixelData")
    except InvalidDicomError:
        return None
    except (EOFError, OSError, ValueError, struct.error) as error:
        raise ScanError("damaged", file, f"it cannot be read to its end ({error})") from error
    if header.get("Modality") in NO_IMAGES or "DirectoryRecordSequence" in header:  # the latter is a DICOMDIR
        return None
    if not ("ImagePositionPatient" in header or "NumberOfFrames" in header) or "Rows" not in header:
        raise ScanError("damaged", file, "it ends before its image, or does not say where that lies")
    stored = header.Rows * header.Columns * header.get("SamplesPerPixel", 1) * header.BitsAllocated // 8
    if pixels is None or (not header.file_meta.TransferSyntaxUID.is_compressed and len(pixels) < stored):
        raise ScanError("damaged", file, f"it holds {len(pixels or b'')} bytes of the {stored} of its image")
    del header.PixelData
    return header
