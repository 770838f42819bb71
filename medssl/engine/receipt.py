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
from medssl.data import Manifest
from medssl.data.splits import with_twins

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
        FileNotFoundError: if there is none, as the weights' spacing and intensities would have to be guessed; for a
            folder.
        ValueError: if another bundle has written it.
    """
    if Path(path).is_dir():
        raise FileNotFoundError(f"weights must be a file, got the folder {path}; give its {Path(path) / 'model.pt'}.")
    file = Path(path).with_suffix(".json")
    if not file.is_file():
        raise FileNotFoundError(
            f"no receipt {file} beside the weights: spacing, window and size of their images are not known. "
            "Give the weights as --checkpoint (or train the bundle first), and copy model.json together with model.pt."
        )
    receipt: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    if bundle is not None and receipt.get("bundle") != bundle:
        raise ValueError(
            f"{path} must be a checkpoint of the {bundle} bundle, got one of {receipt.get('bundle')}; "
            "give that bundle's model.pt."
        )
    return receipt


def provenance(
    checkpoint: str | Path | None, manifest: Manifest, contract: Mapping[str, Any], test_subjects: Sequence[str]
) -> dict[str, Any] | None:
    """Say for a receipt what fine-tuning starts from, and warn where it should not be silent.

    Args:
        checkpoint: of the pre-training; None for random weights.
        manifest: of the data set that is fine-tuned on.
        contract: ``spacing``, ``slice_axis`` and ``window`` that fine-tuning uses; others than those of the
            pre-training are warned of.
        test_subjects: of the fold; those whose images the pre-training has seen, be it under another name, are warned
            of and listed.

    Returns:
        ``checkpoint`` and its ``sha256``; where it has a receipt, ``method`` and ``test_subjects_seen``, None where it
        was pre-trained on another data set and names say nothing. None without a checkpoint.
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
    learnt = set(receipt.get("subjects", receipt.get("labelled", []))) if shares_subjects(receipt, manifest) else set()
    seen = sorted(subject for subject in set(test_subjects) if with_twins(manifest, {subject}) & learnt)
    if receipt.get("manifest") != manifest.name and not seen:
        if shares_subjects(receipt, manifest):
            logger.warning(
                "%s was pre-trained on %s, which shares scans with %s, under other names: they may be test subjects.",
                *(checkpoint, receipt["manifest"], manifest.name),
            )
        return {**facts, "method": receipt.get("method"), "test_subjects_seen": None}
    if seen:
        logger.warning(
            "%s saw the images of %d of %d test subjects: report the result as transductive.",
            *(checkpoint, len(seen), len(set(test_subjects))),
        )
    return {**facts, "method": receipt.get("method"), "test_subjects_seen": seen}


def shares_subjects(receipt: Mapping[str, Any], manifest: Manifest) -> bool:
    """Whether a receipt's subjects are, or are among, those of a data set."""
    return receipt.get("manifest") in (manifest.name, *manifest.overlaps)


def refuse_learnt(checkpoint: str | Path, manifest: Manifest, test_subjects: Sequence[str]) -> None:
    """Refuse to test weights on subjects whose labels made or chose them, or on labels that mean something else.

    Raises:
        ValueError: naming the subjects, or both lists of classes.
    """
    receipt = read_receipt(checkpoint, "finetune")
    classes = list(manifest.labels.values())
    if receipt["classes"] != classes:
        raise ValueError(
            f"{checkpoint} knows {receipt['classes']}, {manifest.name} has {classes}; "
            "give the manifest it was trained with."
        )
    if not shares_subjects(receipt, manifest):
        return
    tested = with_twins(manifest, set(test_subjects))
    for subjects, what in ((receipt["labelled"], "trained"), (receipt.get("chosen_on", []), "chosen")):
        if learnt := sorted(tested & set(subjects)):
            raise ValueError(
                f"{checkpoint} was {what} on {', '.join(learnt)}, test subjects of this fold or their twins; "
                f"evaluate it on the fold it left out, {receipt['fold']} of {receipt['manifest']}."
            )
