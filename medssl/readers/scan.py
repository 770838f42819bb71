"""Scans read to their end: what is damaged is refused, not filled up with zeros."""

from __future__ import annotations

import gzip
import math
import zlib
from itertools import takewhile
from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.openers import ImageOpener
from nibabel.spatialimages import HeaderDataError, SpatialImage

from medssl.readers.faults import ScanError
from medssl.readers.geometry import shear, spans_space

NIBABEL = (".nii", ".nii.gz", ".mgh", ".mgz")
ITK = (".nrrd", ".nhdr", ".mha", ".mhd", ".dcm")
SUFFIXES = (*NIBABEL, *ITK)

MAX_VOXELS, MAX_BYTES = 2**31, 8 * 2**30  # of a scan; a header alone may promise terabytes
MAX_TAIL = 2**24  # bytes behind the voxels: MGH keeps its tags there
# What nibabel and gzip raise on damaged files and on headers that promise what no memory holds.
NO_SCAN = (ImageFileError, HeaderDataError, ValueError, OverflowError, MemoryError)
CUT_OFF = (EOFError, zlib.error, OSError)


def read_scan(file: str | Path, frame: int | None = None) -> SpatialImage:
    """Read one volume, all of it.

    NIfTI and MGH are read by nibabel to the last byte, where a checksum stands; NRRD, MetaImage and DICOM, a file or
    the folder of a series, by ITK.

    Args:
        file: of the scan, or folder of a DICOM series.
        frame: which volume of a series of frames, counted from 1; not looked at where the file holds one volume.

    Returns:
        The volume, in memory: ``dataobj`` :math:`(X, Y, Z)`, ``affine`` in RAS, mm.

    Raises:
        ScanError: if there is none, it is damaged, too large or no volume, or its affine is broken.
    """
    path = Path(file)
    if not path.exists():
        raise ScanError("missing", file, "there is no such file")
    if path.is_dir() or path.name.endswith(ITK):
        from medssl.readers.itk_scan import read_itk  # importing ITK takes seconds

        image = read_itk(path)
    elif path.name.endswith(NIBABEL):
        image = read_whole(path)
    else:
        raise ScanError("unreadable", file, f"its format is none of {', '.join(SUFFIXES)}, nor a folder of DICOM")
    check_volume(image, file, frame)
    return image if len(image.shape) == 3 else one_frame(image, frame)


def read_header(file: str | Path) -> SpatialImage:
    """Return a NIfTI or MGH scan whose voxels were not read, its header checked.

    Raises:
        ScanError: as :py:func:`read_scan`, as far as a header and the length of the file tell.
    """
    try:
        image = nib.load(file)
    except NO_SCAN as error:
        raise ScanError("unreadable", file, f"it is no scan ({one_line(error)})") from error
    except CUT_OFF as error:
        raise ScanError("damaged", file, f"its header cannot be read ({one_line(error)})") from error
    size = math.prod(image.shape)
    if size > MAX_VOXELS or size * image.dataobj.dtype.itemsize > MAX_BYTES:
        raise ScanError("too_large", file, f"its header promises {' x '.join(map(str, image.shape))} voxels")
    if isinstance(image, nib.Nifti1Image) and not image.header["sform_code"]:
        with ImageOpener(file) as stream:
            sizes = image.header_class.from_fileobj(stream, check=False)["pixdim"][1:4]  # nibabel makes 0 to 1
        if not sizes.all():
            raise ScanError("geometry", file, f"its voxels must have a size, its header says {sizes.tolist()} mm")
    return image


def check_scan(file: str | Path, frame: int | None = None) -> SpatialImage:
    """Return a scan that header and length say to be a whole volume; where they do not tell, all of it is read.

    Args:
        file: of the scan, or folder of a DICOM series.
        frame: which volume of a series of frames, counted from 1.

    Raises:
        ScanError: as :py:func:`read_scan`, but for damage within the voxels.
    """
    path = Path(file)
    if not path.is_file() or not path.name.endswith(NIBABEL):
        return read_scan(path, frame)
    image = read_header(path)
    check_volume(image, path, frame)
    if length(path) != promised_bytes(image) % 2**32:
        return read_scan(path, frame)  # cut off, which raises, compressed in parts, or tags at its end
    return image


def length(file: Path) -> int:
    """Return the number of bytes in a file modulo 2^32; of a gzip file, those that its last four bytes promise."""
    size = file.stat().st_size
    if file.suffix not in (".gz", ".mgz") or size < 4:
        return size % 2**32
    with file.open("rb") as stream:
        stream.seek(-4, 2)
        return int.from_bytes(stream.read(), "little")


def read_whole(file: Path) -> SpatialImage:
    """Return a NIfTI or MGH scan that lies in memory, and whose file was read to the end."""
    image = read_header(file)
    promised = promised_bytes(image)
    try:
        with file.open("rb") as raw:
            zipped = raw.read(2) == b"\x1f\x8b"
        with gzip.open(file) if zipped else file.open("rb") as stream:
            data = stream.read(promised)
            tail = stream.read(MAX_TAIL)  # to the checksum
            more = bool(stream.read(1))
    except CUT_OFF as error:
        raise ScanError("damaged", file, f"it cannot be read to its end ({one_line(error)})") from error
    if len(data) < promised:
        raise ScanError("damaged", file, f"it holds {len(data)} bytes of the {promised} that its header promises")
    if more:
        raise ScanError("too_large", file, f"{MAX_TAIL} bytes and more follow the {promised} that its header promises")
    return type(image).from_bytes(data + tail)


def promised_bytes(image: SpatialImage) -> int:
    """Return how many bytes a header promises, itself included."""
    return int(image.dataobj.offset + math.prod(image.shape) * image.dataobj.dtype.itemsize)


def check_volume(image: SpatialImage, file: str | Path, frame: int | None = None) -> None:
    """Refuse an image that is not one volume with axes at right angles.

    Raises:
        ScanError: as :py:func:`read_scan`, as far as shape, type and affine tell.
    """
    shape = image.shape
    if image.get_data_dtype().kind not in "iuf":
        raise ScanError("not_a_volume", file, f"it must hold real numbers, it holds {image.get_data_dtype()}")
    if len(shape) < 3 or min(shape) < 1 or any(side > 1 for side in shape[4:]):
        raise ScanError("not_a_volume", file, f"it must have three axes, its shape is {shape}")
    frames = shape[3] if len(shape) > 3 else 1
    if frames > 1 and (frame is None or not 1 <= frame <= frames):
        came = "none is named" if frame is None else f"frame {frame} is not among them"
        raise ScanError("not_a_volume", file, f"it holds {frames} frames, counted from 1, and {came}")
    affine = np.asarray(image.affine)
    if not spans_space(affine):
        raise ScanError("geometry", file, f"its affine must be finite and span three axes, it is {affine.tolist()}")
    if angle := shear(affine):
        raise ScanError("geometry", file, f"its axes are {angle:.1f} degrees off right angles")


def one_frame(image: SpatialImage, frame: int | None) -> SpatialImage:
    """Return one volume of an image that has more than three axes."""
    frames = np.asanyarray(image.dataobj).reshape(*image.shape[:3], -1)
    number = frame - 1 if frame and frames.shape[3] > 1 else 0
    alone = np.array(frames[..., number], order="F")  # a view would keep all of them in memory
    return type(image)(alone, image.affine, image.header)


def is_placed(file: str | Path) -> bool:
    """Whether a scan says how it lies in space. A NIfTI file with neither sform nor qform does not, others always do.

    Of one that cannot be read it is not known: True.
    """
    if not str(file).endswith((".nii", ".nii.gz")):
        return True
    try:
        header = nib.load(file).header
    except (*NO_SCAN, *CUT_OFF):
        return True
    return bool(header["sform_code"] or header["qform_code"])


def doubts(file: str | Path) -> list[str]:
    """Return what a readable NIfTI or NRRD file leaves to guess, a sentence each."""
    path = Path(file)
    if path.suffix in (".nrrd", ".nhdr"):
        with path.open("rb") as stream:
            fields = {line.split(b":")[0] for line in takewhile(bytes.strip, stream)}  # up to an empty line
        sized = fields & {b"space directions", b"spacings"}
        return [] if sized else ["its header does not say how large voxels are: they are taken to be 1 mm"]
    suffix = next((suffix for suffix in (".nii.gz", ".nii") if path.name.endswith(suffix)), None)
    if suffix is None or path.is_dir():
        return []
    found = []
    sibling = path.with_name(path.name.removesuffix(suffix) + (".nii" if suffix == ".nii.gz" else ".nii.gz"))
    if sibling.exists():
        found.append(f"{sibling.name} lies beside it, which other software reads in its place")
    with ImageOpener(path) as stream:
        header = nib.Nifti1Header.from_fileobj(stream, check=False)
    if header["magic"].item() not in (b"n+1", b"ni1"):  # NIfTI-2
        return found
    if header["scl_slope"] == 0 and header["scl_inter"] != 0:
        found.append(f"its slope is 0: the intercept {header['scl_inter']:g} is not added, as other software does")
    return found


def one_line(error: Exception) -> str:
    """Return what an error says, without its line breaks."""
    return " ".join(str(error).split()) or type(error).__name__
