"""The scans that lie in a folder."""

import zlib
from pathlib import Path

import nibabel as nib
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError

SUFFIXES = (".nii", ".nii.gz")


def find_scans(folder: str | Path) -> list[dict[str, str]]:
    """Return ``{"image": path}`` for every NIfTI volume of a folder, sorted by name.

    Headers are read at once, so that a file which is no volume is known before the first hour is spent.

    Raises:
        FileNotFoundError: if there is none, or no such folder.
        ValueError: listing every file whose header is not that of a volume, or whose mask would overwrite another's.
    """
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
    """Return why a file's header is not that of one volume, or None."""
    try:
        shape = nib.load(file).shape
    except (ImageFileError, HeaderDataError, OSError, EOFError, zlib.error) as error:
        return f"cannot be read ({error})"
    volume = min(shape) > 0 and (len(shape) == 3 or (len(shape) == 4 and shape[3] == 1))
    return None if volume else f"must be one volume, has shape {shape}"
