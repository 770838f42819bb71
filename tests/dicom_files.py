"""DICOM series and RTSTRUCTs for tests."""

import nibabel as nib
import numpy as np
import pydicom
import SimpleITK
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid


def write_series(folder, depth=8, uid=None, spacing=2.0, shift=0.0):
    """A series of slices as a scanner stores it, last slice first; each is moved by ``shift`` mm along its rows."""
    folder.mkdir(exist_ok=True)
    voxels = np.random.default_rng(0).integers(-999, 999, (depth, 6, 7)).astype(np.int16)  # (z, y, x)
    uid = uid or generate_uid()
    for z in range(depth):
        image = SimpleITK.GetImageFromArray(voxels[z])
        image.SetSpacing([0.5, 0.5])
        tags = {
            "0008|0060": "CT",
            "0020|000e": uid,
            "0020|0032": f"{z * shift}\\0\\{z * spacing}",
            "0020|0037": "1\\0\\0\\0\\1\\0",
            "0018|0050": str(spacing),
        }
        for key, value in tags.items():
            image.SetMetaData(key, value)
        writer = SimpleITK.ImageFileWriter()
        writer.KeepOriginalImageUIDOn()
        writer.SetFileName(str(folder / f"{uid[-6:]}_{depth - z:03d}.dcm"))
        writer.Execute(image)
    return voxels


AFFINE = np.array([[-2.0, 0, 0, 20], [0, -2, 0, 30], [0, 0, 3, -6], [0, 0, 0, 1]])
SHAPE = (12, 10, 4)


def rectangle(low, high, slice_number):
    """Corners of a rectangle between voxel centres, in voxels."""
    (x0, y0), (x1, y1) = low, high
    return [(x0, y0, slice_number), (x1, y0, slice_number), (x1, y1, slice_number), (x0, y1, slice_number)]


def write_rt_struct(file, regions, affine=AFFINE, modality="RTSTRUCT", series="1.2.3"):
    """An RTSTRUCT of contours given in voxels."""
    header = Dataset()
    header.file_meta = FileMetaDataset()
    header.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    header.Modality = modality
    header.SOPClassUID, header.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.481.3", "1.2.3.4"
    header.StructureSetROISequence, header.ROIContourSequence = [], []
    for number, (name, contours) in enumerate(regions.items(), start=1):
        named, drawn = Dataset(), Dataset()
        named.ROINumber, named.ROIName = number, name
        drawn.ReferencedROINumber, drawn.ContourSequence = number, []
        for voxels in contours:
            contour = Dataset()
            contour.ContourGeometricType = "CLOSED_PLANAR"
            points = nib.affines.apply_affine(affine, np.array(voxels, dtype=float)) * (-1, -1, 1)
            contour.ContourData = [float(value) for value in points.ravel()]
            drawn.ContourSequence.append(contour)
        header.StructureSetROISequence.append(named)
        header.ROIContourSequence.append(drawn)
    series_of, study, frame = Dataset(), Dataset(), Dataset()
    series_of.SeriesInstanceUID = series
    study.RTReferencedSeriesSequence = [series_of]
    frame.RTReferencedStudySequence = [study]
    header.ReferencedFrameOfReferenceSequence = [frame]
    pydicom.dcmwrite(file, header, enforce_file_format=True)
    return file
