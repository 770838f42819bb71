"""Whether weights have seen those whom they are about to be tested on."""

import hashlib
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from medssl.data import Manifest
from medssl.data.splits import with_duplicates
from medssl.engine.receipt import read_receipt
from medssl.networks.weights import load_tensors

logger = logging.getLogger(__name__)
OTHER_NAMES = "%s learnt from %s, which shares scans with %s: test subjects may be among them under other names."


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
        ``checkpoint`` and its ``sha256``; where it has a receipt, ``method``, the ``subjects`` that it saw of this data
        set or one that shares scans, and ``test_subjects_seen``, None where names cannot tell: it was pre-trained on
        another data set. None without a checkpoint.

    Raises:
        ValueError: if fine-tuning made the checkpoint, by its receipt or its head: whom it learnt from would be
            forgotten.
    """
    if checkpoint is None:
        return None
    facts = {"checkpoint": str(checkpoint), "sha256": hashlib.sha256(Path(checkpoint).read_bytes()).hexdigest()}
    if not Path(checkpoint).with_suffix(".json").is_file():
        tensors = load_tensors(Path(checkpoint))
        if isinstance(tensors, dict) and any(str(name).startswith("head.") for name in tensors):
            raise ValueError(
                f"{checkpoint} holds a segmentation head: it learnt from labels, and no receipt says whose; start from "
                "the pretrain bundle's model.pt, or bring the receipt that lay beside these weights."
            )
        logger.warning("no receipt beside %s: what it saw, and at which spacing and window, is not known.", checkpoint)
        return facts
    receipt = read_receipt(checkpoint, "pretrain")
    for key, value in contract.items():
        if key in receipt and receipt[key] != value:
            logger.warning(
                "%s was pre-trained with %s %s and is fine-tuned with %s.", checkpoint, key, receipt[key], value
            )
    learnt, names_tell = learnt_from(receipt, "subjects", manifest)
    seen = sorted(name for name in test_subjects if with_duplicates({name}, manifest.duplicates) & learnt)
    if seen:
        logger.warning(
            "%s saw the images of %d of %d test subjects: report the result as transductive.",
            *(checkpoint, len(seen), len(test_subjects)),
        )
    elif learnt and not names_tell:
        logger.warning(OTHER_NAMES, checkpoint, receipt["manifest"], manifest.name)
    known = {"method": receipt.get("method"), "subjects": sorted(learnt)}
    return {**facts, **known, "test_subjects_seen": seen if seen or names_tell else None}


def refuse_learnt(checkpoint: str | Path, manifest: Manifest, test_subjects: Sequence[str]) -> None:
    """Refuse to test weights on subjects whose labels made or chose them, or on labels that mean something else.

    Weights that are declared as chosen on the test fold are warned of, and those that learnt from a data set that
    shares scans with this one, where a test subject may have another name, or whose pre-training saw test images.

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
    labelled, names_tell = learnt_from(receipt, "labelled", manifest)
    chosen_on, _ = learnt_from(receipt, "chosen_on", manifest)
    for what, subjects in (("trained", tested & labelled), ("chosen", tested & chosen_on)):
        if subjects and what == "chosen" and receipt["selection"] == "the test fold":
            logger.warning("%s was chosen on its test fold: report the Dice as such, it flatters.", checkpoint)
        elif subjects:
            raise ValueError(
                f"{checkpoint} was {what} on {', '.join(sorted(subjects))}, test subjects of this fold or their "
                f"duplicates; evaluate it on the fold it left out, {receipt['fold']} of {receipt['manifest']}."
            )
    if labelled and not names_tell:
        logger.warning(OTHER_NAMES, checkpoint, receipt["manifest"], manifest.name)
    starts = [start for key, start in receipt.items() if key.startswith("pretrained") and start]
    if any(tested & learnt_from({**receipt, **start}, "subjects", manifest)[0] for start in starts):
        logger.warning("%s started from weights that saw test images: report the Dice as transductive.", checkpoint)


def learnt_from(receipt: Mapping[str, Any], key: str, manifest: Manifest) -> tuple[set[str], bool]:
    """Return the subjects that a receipt lists, under all their names, and whether these tell who is none of them.

    A name of another data set means something only where both share scans, and even there one scan may have two. A
    receipt that lists nobody, that of random weights or of photographs, leaves nothing to tell.
    """
    subjects = with_duplicates(set(receipt.get(key, [])), receipt.get("duplicates", []))
    if receipt.get("manifest") == manifest.name or receipt.get(key) == []:
        return subjects, True
    shared = receipt.get("manifest") in manifest.overlaps or manifest.name in receipt.get("overlaps", [])
    return (subjects if shared else set()), False
