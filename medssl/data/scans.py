"""The scans that lie in a folder."""

import math
import zlib
from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel.affines import voxel_sizes
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError

from medssl.transforms.spacing import spans_space, voxel_axis

# What nibabel and gzip raise on damaged files and on headers that promise what no memory holds.
UNREADABLE = (ImageFileError, HeaderDataError, OSError, EOFError, ValueError, OverflowError, MemoryError, zlib.error)
SUFFIXES = (".nii", ".nii.gz")


def find_scans(folder: str | Path, masks: str | Path | None = None) -> list[dict[str, str]]:
    """Return ``{"image": path}`` for every NIfTI volume of a folder, sorted by name.

    Headers and lengths are checked at once, so that a file which is no volume, or cut off, is known before the first
    hour is spent.

    Args:
        folder: of the scans.
        masks: folder that their masks will be written to; the scans' own is refused, where the next call would take
            masks for scans.

    Raises:
        FileNotFoundError: if there is none, or no such folder.
        ValueError: listing every file that is not one whole volume, or whose mask would overwrite another's; if scans
            and masks would share a folder.
    """
    if masks is not None and Path(folder).resolve() == Path(masks).resolve():
        raise ValueError(f"masks must not lie among the scans, got {folder} for both; give output_dir another folder.")
    if not Path(folder).is_dir():
        raise FileNotFoundError(f"no folder {Path(folder).absolute()}; give the one that the scans lie in.")
    files = sorted(path for path in Path(folder).glob("*") if path.name.endswith(SUFFIXES) and path.name[0] != ".")
    if not files:
        raise FileNotFoundError(
            f"no NIfTI file (.nii, .nii.gz) in {Path(folder).absolute()}; give the folder of scans."
        )
    names = {path.name for path in files}
    problems = [f"{path.name}: {problem}" for path in files if (problem := fault(path))]
    problems += [f"{name}: its mask would be that of {name}.gz" for name in sorted(names) if f"{name}.gz" in names]
    if problems:
        raise ValueError("\n  ".join([f"move these out of {Path(folder).absolute()}, or mend them:", *problems]))
    return [{"image": str(path)} for path in files]


def fault(file: Path) -> str | None:
    """Return why a file is not one whole volume, or None."""
    try:
        scan = nib.load(file)
        shape = scan.shape
        if min(shape, default=0) < 1 or not (len(shape) == 3 or (len(shape) == 4 and shape[3] == 1)):
            return f"must be one volume, has shape {shape}"
        if scan.get_data_dtype().kind not in "iuf":
            return f"must hold real numbers, holds {scan.get_data_dtype()}"
        if not spans_space(scan.affine):
            return f"has an affine that is not finite or does not span three axes, {scan.affine.tolist()}"
        stored = scan.dataobj.offset + math.prod(shape) * scan.dataobj.dtype.itemsize
        if length(file) != stored % 2**32:
            np.asarray(scan.dataobj)  # cut off, which raises, or compressed in parts
    except UNREADABLE as error:
        return f"cannot be read ({error or type(error).__name__})"
    return None


def slicing(file: str | Path, slice_axis: str) -> str:
    """Say how a scan is sliced: whether the slice axis is right is for a person to see.

    Raises:
        ValueError: if it is not one whole volume.
    """
    if problem := fault(Path(file)):
        raise ValueError(f"{file}: {problem}")
    scan = nib.load(file)
    axis, sizes = voxel_axis(scan.affine, slice_axis), voxel_sizes(scan.affine)
    pixels = " x ".join(str(size) for other, size in enumerate(scan.shape[:3]) if other != axis)
    text = f"{Path(file).name}: {scan.shape[axis]} slices of {pixels} along {slice_axis}, {sizes[axis]:.3g} mm apart"
    doubt = f"; its voxels are longest, {sizes.max():.3g} mm, along another axis: is slice_axis right?"
    return text + (doubt if sizes[axis] < 0.5 * sizes.max() else "")


def length(file: Path) -> int:
    """Return the number of bytes in a file modulo 2^32; of a gzip file, those that its last four bytes promise."""
    size = file.stat().st_size
    if file.suffix != ".gz" or size < 4:
        return size % 2**32
    with file.open("rb") as stream:
        stream.seek(-4, 2)
        return int.from_bytes(stream.read(), "little")
