"""Who is trained on, who is labelled, who is tested: always by subject, never by volume."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from medssl.data.manifest import Manifest, Record


@dataclass(frozen=True)
class Split:
    """Records of one fold and one draw of labels.

    Attributes:
        labelled: of the subjects whose labels may be learnt from.
        held_out: labelled, of the training subjects that were not drawn.
        test: labelled, of the fold's subjects.
        pretrain: images for pre-training, without labels.
    """

    labelled: list[Record]
    held_out: list[Record]
    test: list[Record]
    pretrain: list[Record]


def folds(subjects: Sequence[str], num_folds: int = 5, seed: int = 12345) -> list[list[str]]:
    """Deal subjects into folds as scikit-learn's ``KFold(num_folds, shuffle=True, random_state=seed)`` does.

    Returns:
        The held-out subjects of every fold, in their given order. Seed and number are those of the PCL reference.

    Raises:
        ValueError: if there are fewer subjects than folds.
    """
    if not 2 <= num_folds <= len(subjects):
        raise ValueError(f"{len(subjects)} subjects make 2 to {len(subjects)} folds, got {num_folds}.")
    order = np.arange(len(subjects))
    np.random.RandomState(seed).shuffle(order)
    return [[subjects[i] for i in sorted(part)] for part in np.array_split(order, num_folds)]


def label_draw(subjects: Sequence[str], draw: int = 0, seed: int = 1234) -> list[str]:
    """Order the training subjects at random; its first M are the labelled ones, so 2 are nested in 6, and 6 in 10.

    Draw 0 gives what ``random.seed(1234); random.sample(subjects, M)`` gives in the PCL reference.
    """
    return random.Random(seed + draw).sample(list(subjects), len(subjects))


def split(
    manifest: Manifest,
    fold: int | None = 0,
    num_labelled: int | None = None,
    draw: int = 0,
    transductive: bool = False,
    num_folds: int = 5,
) -> Split:
    """Split a data set.

    Args:
        manifest: whose records' own folds are taken where it has them.
        fold: held out for testing; None takes the manifest's test section, or else its validation section.
        num_labelled: number of labelled subjects; None for all training subjects.
        draw: which draw of labelled subjects, see :py:func:`label_draw`; draw 0 is the manifest's ``labelled_order``
            where it has one.
        transductive: also pre-train on the images of the test subjects, as the SAL paper does: on the same images
            whatever the fold.
        num_folds: where the manifest names no folds.

    Raises:
        ValueError: for a fold or a number of subjects that does not exist.
    """
    held = held_out_subjects(manifest, fold, num_folds)
    everyone = sorted({record["subject_id"] for record in manifest.training} - held)
    # A scan under another name is the same subject: it must not be learnt from either.
    barred = held.union(*(group for group in manifest.duplicates if held & set(group)))
    given = manifest.labelled_order.get(fold) if draw == 0 and fold is not None else None
    training = [subject for subject in given or label_draw(everyone, draw) if subject not in barred]
    if num_labelled is not None and not 1 <= num_labelled <= len(training):
        raise ValueError(
            f"num_labelled must be 1 to {len(training)}, the training subjects of fold {fold}, got {num_labelled}; "
            "None takes all of them."
        )
    drawn = set(training[:num_labelled])

    def of(names: set[str]) -> list[Record]:
        return [record for record in manifest.training if record["subject_id"] in names]

    test = of(held) if fold is not None else own_test(manifest)
    images = manifest.training + manifest.unlabeled
    if not transductive:
        images = [record for record in images if record["subject_id"] not in barred]
    elif fold is None:
        images = images + test
    unlabelled = [{key: value for key, value in record.items() if key != "label"} for record in images]
    return Split(of(drawn), of(set(training) - drawn), test, unlabelled)


def held_out_subjects(manifest: Manifest, fold: int | None, num_folds: int) -> set[str]:
    """Return the subjects of a fold, or those that the manifest itself sets aside."""
    if fold is None:
        if not own_test(manifest):
            raise ValueError(f"{manifest.name} has no labelled record in test or validation; give a fold to test on.")
        return {record["subject_id"] for record in manifest.test + manifest.validation}
    named = {record["fold"] for record in manifest.training if "fold" in record}
    available = sorted(named) if named else list(range(num_folds))
    if fold not in available:
        raise ValueError(f"fold must be one of {available}, got {fold}; null tests on the manifest's test section.")
    if named:
        return {record["subject_id"] for record in manifest.training if record["fold"] == fold}
    return set(folds(sorted({record["subject_id"] for record in manifest.training}), num_folds)[fold])


def own_test(manifest: Manifest) -> list[Record]:
    """Return what the manifest itself holds for testing: its labelled test records, or else those of validation."""
    return [record for record in manifest.test if "label" in record] or manifest.validation
