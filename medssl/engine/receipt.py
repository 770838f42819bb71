"""What a checkpoint must say about itself, as JSON beside it."""

import json
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

from medssl import __version__

PACKAGES = ("torch", "monai", "numpy", "nibabel", "scikit-image")


def versions() -> dict[str, str]:
    """Return the versions that a run depends on."""
    return {"medssl": __version__, "python": platform.python_version(), **{name: version(name) for name in PACKAGES}}


def read_receipt(path: str | Path) -> dict[str, Any]:
    """Read the receipt of a checkpoint.

    Args:
        path: the checkpoint (``model.pt``) or the receipt itself (``model.json``).

    Raises:
        FileNotFoundError: if there is none: the weights' spacing and intensities would have to be guessed.
    """
    file = Path(path).with_suffix(".json")
    if not file.is_file():
        raise FileNotFoundError(
            f"no receipt {file} beside the weights: spacing, window and size of their images are not known. "
            "Train the bundle first, or copy model.json together with model.pt."
        )
    receipt: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return receipt
