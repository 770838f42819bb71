"""Whether weights have seen those whom they are about to be tested on."""

import hashlib
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from medssl.data import Manifest
from medssl.data.splits import with_duplicates
from medssl.engine.receipt import read_receipt

logger = logging.getLogger(__name__)


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

    Raises:
        ValueError: if fine-tuning made the checkpoint: whom it learnt from would be forgotten.
    """
    if checkpoint is None:
        return None
    facts = {"checkpoint": str(checkpoint), "sha256": hashlib.sha256(Path(checkpoint).read_bytes()).hexdigest()}
    if not Path(checkpoint).with_suffix(".json").is_file():
        logger.warning("no receipt beside %s: what it saw, and at which spacing and window, is not known.", checkpoint)
        return facts
    receipt = read_receipt(checkpoint, "pretrain")
    for key, value in contract.items():
        if key in receipt and receipt[key] != value:
            logger.warning(
                "%s was pre-trained with %s %s and is fine-tuned with %s.", checkpoint, key, receipt[key], value
            )
    learnt = subjects_of(receipt, "subjects", manifest, checkpoint)
    if learnt is None:
        return {**facts, "method": receipt.get("method"), "test_subjects_seen": None}
    seen = sorted(name for name in set(test_subjects) if with_duplicates({name}, manifest.duplicates) & learnt)
    if seen:
        logger.warning(
            "%s saw the images of %d of %d test subjects: report the result as transductive.",
            *(checkpoint, len(seen), len(set(test_subjects))),
        )
    return {**facts, "method": receipt.get("method"), "test_subjects_seen": seen}


def refuse_learnt(checkpoint: str | Path, manifest: Manifest, test_subjects: Sequence[str]) -> None:
    """Refuse to test weights on subjects whose labels made or chose them, or on labels that mean something else.

    Weights that are declared as chosen on the test fold are warned of.

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
    tested = with_duplicates(set(test_subjects), manifest.duplicates)
    for key, what in (("labelled", "trained"), ("chosen_on", "chosen")):
        learnt = sorted(tested & (subjects_of(receipt, key, manifest, checkpoint) or set()))
        if learnt and receipt["selection"] == "the test fold" and what == "chosen":
            logger.warning("%s was chosen on its test fold: report the Dice as such, it flatters.", checkpoint)
        elif learnt:
            raise ValueError(
                f"{checkpoint} was {what} on {', '.join(learnt)}, test subjects of this fold or their duplicates; "
                f"evaluate it on the fold it left out, {receipt['fold']} of {receipt['manifest']}."
            )


def subjects_of(receipt: Mapping[str, Any], key: str, manifest: Manifest, checkpoint: str | Path) -> set[str] | None:
    """Return the subjects that a receipt lists, under all their names; None where these say nothing of a data set."""
    listed = set(receipt.get(key, []))
    subjects = with_duplicates(listed, receipt.get("duplicates", []))
    if receipt.get("manifest") == manifest.name:
        return subjects
    shared = receipt.get("manifest") in manifest.overlaps or manifest.name in receipt.get("overlaps", [])
    if shared and listed and not subjects & manifest.subjects:
        logger.warning(
            "%s learnt from %s, which shares scans with %s under other names: they may be test subjects.",
            *(checkpoint, receipt["manifest"], manifest.name),
        )
    return subjects if shared and subjects & manifest.subjects else None
