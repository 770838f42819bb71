"""Files that are either the old one or the new one, whatever happens while they are written."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any


def replace(path: Path, write: Callable[[Path], Any], keep: bool = False) -> None:
    """Write a file under another name, flush it to the disk and rename it into place.

    Args:
        path: of the file; its folder is made.
        write: called with the path to write to.
        keep: leave the old file as :py:func:`previous`.

    Raises:
        OSError: if it cannot be written, a full disk above all; the old file is as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name("part_" + path.name)  # in front: nibabel and others go by the ending
    try:
        write(temporary)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
    except (OSError, RuntimeError) as error:  # torch reports a failed write as RuntimeError
        temporary.unlink(missing_ok=True)
        free = shutil.disk_usage(path.parent).free / 2**20
        left = "the previous one is intact" if path.exists() else "nothing was written"
        raise OSError(f"could not write {path}: {error} ({free:.0f} MiB free there); {left}.") from error
    if keep and path.exists():
        older = previous(path)
        older.unlink(missing_ok=True)
        try:
            os.link(path, older)
        except OSError:  # a file system without hard links
            shutil.copyfile(path, older)
    os.replace(temporary, path)


def previous(path: Path) -> Path:
    """Name of the file before this one: ``last.previous.pt``."""
    return path.with_name(f"{path.stem}.previous{path.suffix}")
