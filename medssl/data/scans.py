"""The scans that lie in a folder."""

from pathlib import Path


def find_scans(folder: str | Path) -> list[dict[str, str]]:
    """Return ``{"image": path}`` for every NIfTI file of a folder, sorted by name.

    Raises:
        FileNotFoundError: if there is none, or no such folder.
    """
    paths = sorted(path for path in Path(folder).glob("*") if path.name.endswith((".nii", ".nii.gz")))
    if not paths:
        raise FileNotFoundError(
            f"no NIfTI file (.nii, .nii.gz) in {Path(folder).absolute()}; give the folder of scans."
        )
    return [{"image": str(path)} for path in paths]
