"""What a checkpoint must say about itself, as JSON beside it."""

import hashlib
import json
import logging
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from medssl import __version__

logger = logging.getLogger(__name__)
PACKAGES = ("torch", "monai", "numpy", "nibabel", "scikit-image")


def versions() -> dict[str, str]:
    """Return the versions that a run depends on."""
    return {"medssl": __version__, "python": platform.python_version(), **{name: version(name) for name in PACKAGES}}


def read_receipt(path: str | Path, bundle: str | None = None) -> dict[str, Any]:
    """Read the receipt of a checkpoint.

    Args:
        path: the checkpoint (``model.pt``) or the receipt itself (``model.json``).
        bundle: that must have written it, ``"pretrain"`` or ``"finetune"``; None for either.

    Raises:
        FileNotFoundError: if there is none: the weights' spacing and intensities would have to be guessed.
        ValueError: if another bundle has written it.
    """
    file = Path(path).with_suffix(".json")
    if not file.is_file():
        raise FileNotFoundError(
            f"no receipt {file} beside the weights: spacing, window and size of their images are not known. "
            "Train the bundle first, or copy model.json together with model.pt."
        )
    receipt: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    if bundle is not None and receipt.get("bundle") != bundle:
        raise ValueError(f"{path} must be a checkpoint of the {bundle} bundle, got one of {receipt.get('bundle')}.")
    return receipt


def provenance(
    checkpoint: str | Path | None, manifest: str, contract: Mapping[str, Any], test_subjects: Sequence[str]
) -> dict[str, Any] | None:
    """Say for a receipt what fine-tuning starts from, and warn where it should not be silent.

    Args:
        checkpoint: of the pre-training; None for random weights.
        manifest: name of the data set that is fine-tuned on.
        contract: ``spacing``, ``slice_axis`` and ``window`` that fine-tuning uses; others than those of the
            pre-training are warned of.
        test_subjects: of the fold; those whose images the pre-training has seen are warned of and listed.

    Returns:
        ``checkpoint``, its ``sha256``, ``method`` and ``test_subjects_seen``, None where it was pre-trained on another
        manifest and names say nothing; None without a checkpoint.
    """
    if checkpoint is None:
        return None
    facts = {"checkpoint": str(checkpoint), "sha256": hashlib.sha256(Path(checkpoint).read_bytes()).hexdigest()}
    if not Path(checkpoint).with_suffix(".json").is_file():
        logger.warning("no receipt beside %s: what it saw, and at which spacing and window, is not known.", checkpoint)
        return facts
    receipt = read_receipt(checkpoint)
    for key, value in contract.items():
        if key in receipt and receipt[key] != value:
            logger.warning(
                "%s was pre-trained with %s %s and is fine-tuned with %s.", checkpoint, key, receipt[key], value
            )
    if receipt.get("manifest") != manifest:
        return {**facts, "method": receipt.get("method"), "test_subjects_seen": None}
    seen = sorted(set(test_subjects) & set(receipt.get("subjects", receipt.get("labelled", []))))
    if seen:
        logger.warning(
            "%s saw the images of %d of %d test subjects: name the result transductive.",
            *(checkpoint, len(seen), len(set(test_subjects))),
        )
    return {**facts, "method": receipt.get("method"), "test_subjects_seen": seen}


def refuse_learnt(checkpoint: str | Path, manifest: str, test_subjects: Sequence[str]) -> None:
    """Refuse to test weights on subjects whose labels they were trained on.

    Raises:
        ValueError: naming them.
    """
    receipt = read_receipt(checkpoint, "finetune")
    learnt = sorted(set(test_subjects) & set(receipt["labelled"])) if receipt["manifest"] == manifest else []
    if learnt:
        raise ValueError(
            f"{checkpoint} was trained on {', '.join(learnt)}, test subjects of this fold; "
            f"evaluate it on its own, fold {receipt['fold']}."
        )
