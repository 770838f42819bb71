"""The scans that lie in a folder."""

import logging
from pathlib import Path

from nibabel.affines import voxel_sizes

from medssl.readers import SUFFIXES, ScanError, check_scan, doubts, is_placed, read_scan
from medssl.transforms.spacing import voxel_axis

logger = logging.getLogger(__name__)

UNPLACED = "its header does not say how it lies in space: axes are taken to be right, anterior, superior"


def find_scans(folder: str | Path, masks: str | Path | None = None) -> list[dict[str, str]]:
    """Return ``{"image": path}`` for every volume of a folder, files and folders of DICOM series, sorted by name.

    They are checked at once, so that a file which is no volume, or cut off, is known before the first hour is spent:
    NIfTI and MGH by header and length, the others by reading them. What a header leaves to guess is warned of.

    Args:
        folder: of the scans.
        masks: folder that their masks will be written to; the scans' own is refused, where the next call would take
            masks for scans.

    Raises:
        FileNotFoundError: if there is none, or no such folder.
        ValueError: listing everything that is not one whole volume, or whose mask would overwrite another's; if scans
            and masks would share a folder.
    """
    if masks is not None and Path(folder).resolve() == Path(masks).resolve():
        raise ValueError(f"masks must not lie among the scans, got {folder} for both; give output_dir another folder.")
    if not Path(folder).is_dir():
        raise FileNotFoundError(f"no folder {Path(folder).absolute()}; give the one that the scans lie in.")
    scans = sorted(path for path in Path(folder).iterdir() if path.name[0] != "." and is_scan(path))
    if not scans:
        raise FileNotFoundError(
            f"no scan ({', '.join(SUFFIXES)}, or a folder of DICOM) in {Path(folder).absolute()}; give the folder of "
            "scans."
        )
    problems = [f"{path.name}: {problem}" for path in scans if (problem := fault(path))]
    names: dict[str, str] = {}
    for path in scans:
        first = names.setdefault(stem(path), path.name)
        if first != path.name:
            problems.append(f"{path.name}: its mask would be that of {first}")
    if problems:
        raise ValueError("\n  ".join([f"move these out of {Path(folder).absolute()}, or mend them:", *problems]))
    for path in scans:
        for doubt in [*doubts(path), *([] if is_placed(path) else [UNPLACED])]:
            logger.warning("%s: %s", path.name, doubt)
    return [{"image": str(path)} for path in scans]


def is_scan(path: Path) -> bool:
    """Whether a path looks like a scan: a file by its name, a folder by the DICOM files in it."""
    return path.name.endswith(SUFFIXES) if path.is_file() else any(path.glob("*.dcm"))


def stem(path: Path) -> str:
    """Return a scan's name without its ending."""
    return next((path.name.removesuffix(suffix) for suffix in SUFFIXES if path.name.endswith(suffix)), path.name)


def fault(path: Path) -> str | None:
    """Return why a path is not one whole volume, or None."""
    try:
        check_scan(path)
    except ScanError as error:
        return error.reason
    return None


def slicing(file: str | Path, slice_axis: str, frame: int | None = None) -> str:
    """Say how a scan is sliced: whether the slice axis is right is for a person to see.

    Raises:
        medssl.readers.ScanError: if it is not one whole volume.
    """
    scan = read_scan(file, frame)
    axis, sizes = voxel_axis(scan.affine, slice_axis), voxel_sizes(scan.affine)
    pixels = " x ".join(str(size) for other, size in enumerate(scan.shape[:3]) if other != axis)
    text = f"{Path(file).name}: {scan.shape[axis]} slices of {pixels} along {slice_axis}, {sizes[axis]:.3g} mm apart"
    doubt = f"; its voxels are longest, {sizes.max():.3g} mm, along another axis: is slice_axis right?"
    return text + (doubt if sizes[axis] < 0.5 * sizes.max() else "")
