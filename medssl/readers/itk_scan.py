"""Formats that ITK reads: NRRD, MetaImage, DICOM."""

from __future__ import annotations

import warnings
from pathlib import Path

import itk
import nibabel as nib
from monai.data import ITKReader
from nibabel.spatialimages import SpatialImage

from medssl.readers.dicom_series import series_files
from medssl.readers.faults import ScanError


def read_itk(path: Path) -> SpatialImage:
    """Return the volume of a file or of a folder with one DICOM series, in memory, its affine in RAS."""
    names = [str(file) for file in series_files(path)] if path.is_dir() else str(path)
    try:
        with warnings.catch_warnings():  # SWIG's, while ITK loads its parts: as errors they would end Python
            warnings.simplefilter("ignore", DeprecationWarning)
            image = itk.imread(names)
    except RuntimeError as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise ScanError("damaged", path, f"ITK cannot read it ({lines[-1] if lines else 'no reason given'})") from error
    voxels, meta = ITKReader().get_data(image)
    return nib.Nifti1Image(voxels, meta["original_affine"], dtype=voxels.dtype)
