"""Who is trained on, who is labelled, who is tested: always by subject, never by volume."""

from __future__ import annotations

import logging
import random
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral

import numpy as np

from medssl.data.manifest import Manifest, Record
from medssl.data.manifest_checks import SECTIONS

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Split:
    """Records of one fold and one draw of labels.

    Attributes:
        labelled: of the subjects whose labels may be learnt from. A class that none of them had contoured is said to be
            known, and absent, in all: as an unknown one it would cost nothing anywhere, and cover the image.
        held_out: labelled, of the training subjects that were not drawn, nor are duplicates of the drawn.
        test: labelled, of the fold's subjects.
    """

    labelled: list[Record]
    held_out: list[Record]
    test: list[Record]

    @property
    def selection(self) -> list[Record]:
        """The held-out records, to choose weights by.

        Raises:
            ValueError: if there are none.
        """
        if not self.held_out:
            raise ValueError("every training subject is learnt from, none is left to choose by; lower num_labelled.")
        return self.held_out


def folds(subjects: Sequence[str], num_folds: int = 5, seed: int = 12345) -> list[list[str]]:
    """Deal subjects into folds as scikit-learn's ``KFold(num_folds, shuffle=True, random_state=seed)`` does.

    Returns:
        The held-out subjects of every fold, in their given order. Seed and number are those of the PCL reference.

    Raises:
        ValueError: if there are fewer subjects than folds.
    """
    if not 2 <= num_folds <= len(subjects):
        raise ValueError(
            f"{len(subjects)} subjects cannot be dealt into {num_folds} folds; add subjects, give every training "
            "record of the manifest a fold of its choice, or test on its test section with fold None."
        )
    order = np.arange(len(subjects))
    np.random.RandomState(seed).shuffle(order)
    return [[subjects[i] for i in sorted(part)] for part in np.array_split(order, num_folds)]


def label_draw(subjects: Sequence[str], draw: int = 0) -> list[str]:
    """Order the training subjects at random; its first M are the labelled ones, so 2 are nested in 6, and 6 in 10.

    Draw 0 gives what ``random.seed(1234); random.sample(subjects, M)`` gives in the PCL reference.
    """
    return random.Random(1234 + draw).sample(list(subjects), len(subjects))


def split(
    manifest: Manifest,
    fold: int | None = 0,
    num_labelled: int | None = None,
    draw: int = 0,
    labelled_cases: Sequence[str] | None = None,
) -> Split:
    """Split a data set.

    Args:
        manifest: whose records' own folds are taken where it has them.
        fold: held out for testing; None takes the manifest's test section, or else its validation section.
        num_labelled: number of labelled subjects; None for all training subjects.
        draw: which draw of labelled subjects, see :py:func:`label_draw`; draw 0 is the manifest's ``labelled_order``
            where it has one.
        labelled_cases: ids of the labelled cases, in place of a draw; what else their subjects have is left out.

    Raises:
        ValueError: for a fold, a number of subjects or a case that does not exist, or is not to be learnt from.
    """
    held = held_out_subjects(manifest, fold)
    barred = with_duplicates(held, manifest.duplicates)
    everyone = sorted({record["subject_id"] for record in manifest.training} - held)
    given = manifest.labelled_order.get(fold) if draw == 0 and fold is not None else None
    training = [subject for subject in given or label_draw(everyone, draw) if subject not in barred]
    if num_labelled is not None and not (isinstance(num_labelled, Integral) and 1 <= num_labelled <= len(training)):
        raise ValueError(
            f"num_labelled must be 1 to {len(training)}, the training subjects of fold {fold}, got {num_labelled!r}; "
            "None takes all of them."
        )
    drawn = set(training[:num_labelled])

    def of(names: set[str]) -> list[Record]:
        return [finetune_record(manifest, record) for record in manifest.training if record["subject_id"] in names]

    labelled = of(drawn)
    if labelled_cases is not None:
        if num_labelled is not None or draw != 0:
            raise ValueError("labelled_cases stands in place of a draw; leave num_labelled and draw as they are.")
        labelled = of_cases(of(set(training)), labelled_cases, f"the training subjects of fold {fold}")
        drawn = {record["subject_id"] for record in labelled}

    test = of(held) if fold is not None else [finetune_record(manifest, record) for record in own_test(manifest)]
    return Split(learnable(manifest, labelled), of(set(training) - with_duplicates(drawn, manifest.duplicates)), test)


def of_cases(records: Sequence[Record], cases: Sequence[str], whose: str) -> list[Record]:
    """Return the records of some cases, each of which must be there."""
    found = [record for record in records if record["case_id"] in set(cases)]
    unknown = set(cases) - {record["case_id"] for record in found}
    if unknown or not found:
        some = ", ".join(sorted(record["case_id"] for record in records)[:3])
        raise ValueError(
            f"labelled_cases must be ids of cases of {whose}, such as {some}; got "
            f"{', '.join(sorted(unknown)) or 'none'}."
        )
    return found


def every_label(manifest: Manifest) -> Split:
    """Take every labelled training subject to learn from, and none to test on."""
    return Split(learnable(manifest, [finetune_record(manifest, record) for record in manifest.training]), [], [])


def learnable(manifest: Manifest, labelled: list[Record]) -> list[Record]:
    """Return labelled records whose classes can all be learnt, one that was nowhere contoured as absent."""
    classes = manifest.labels.keys() - {0}
    nowhere = classes.difference(*(record.get("known_classes", classes) for record in labelled))
    if not nowhere:
        return labelled
    logger.warning(
        "none of the labelled subjects has contours of %s: it is learnt as background, and missed wherever it is; draw "
        "more subjects, or others, to learn it.",
        ", ".join(manifest.labels[label] for label in sorted(nowhere)),
    )
    return [{**record, "known_classes": sorted({*record["known_classes"], *nowhere})} for record in labelled]


def pretrain_records(
    manifest: Manifest,
    fold: int | None = 0,
    transductive: bool = False,
    sections: Sequence[str] = SECTIONS,
) -> list[Record]:
    """Return the images to pre-train on, without labels.

    Args:
        manifest: of the data set.
        fold: whose test subjects, and their duplicates, are left out; None leaves out those of the manifest's own test
            section. Of no account when transductive.
        transductive: take every image of every section, as the SAL paper does.
        sections: of the manifest, that images are taken from; ``["unlabeled"]`` leaves all that have labels out.

    Raises:
        ValueError: for a fold or section that does not exist, or a transductive that is neither true nor false; if no
            image is left.
    """
    if not isinstance(transductive, bool):
        raise ValueError(f"transductive must be True or False, got {transductive!r}; on a command line write False.")
    if unknown := set(sections) - set(SECTIONS):
        raise ValueError(f"sections must be among {', '.join(SECTIONS)}, got {', '.join(sorted(unknown))}.")
    taken = ("training", "unlabeled", "validation", "test") if transductive else ("training", "unlabeled")
    barred = set() if transductive else with_duplicates(held_out_subjects(manifest, fold), manifest.duplicates)
    images = [record for section in taken if section in sections for record in getattr(manifest, section)]
    kept = ("case_id", "subject_id", "image", "frame")  # the last is taken away as the image is loaded
    records = [
        {key: record[key] for key in kept if key in record} for record in images if record["subject_id"] not in barred
    ]
    if not records:
        raise ValueError(f"{manifest.name} has no image to pre-train on in {', '.join(sections)}; name other sections.")
    return records


def finetune_record(manifest: Manifest, record: Record) -> Record:
    """Return what fine-tuning needs of a record; classes that were contoured only where others were not."""
    kept: Record = {key: record[key] for key in ("case_id", "subject_id", "image", "label", "frame") if key in record}
    known = record.get("known_classes")
    partial = known is not None and set(known) < manifest.labels.keys() - {0}
    return {**kept, "known_classes": known} if partial else kept


def with_duplicates(subjects: set[str], duplicates: Sequence[Sequence[str]]) -> set[str]:
    """Add the other names of subjects, by groups that may overlap: a scan under another name is the same scan."""
    found = set(subjects)
    while more := {name for group in duplicates if found & set(group) for name in group} - found:
        found |= more
    return found


def held_out_subjects(manifest: Manifest, fold: int | None) -> set[str]:
    """Return the subjects of a fold, or those that the manifest itself sets aside."""
    if fold is None:
        if not own_test(manifest):
            raise ValueError(
                f"{manifest.name} has no labelled record in test or validation: move one there, or test on a fold."
            )
        return {record["subject_id"] for record in manifest.test + manifest.validation}
    available = fold_subjects(manifest)
    if fold not in list(available):  # a list: a fold from a command line may be one, which has no hash
        raise ValueError(
            f"fold must be one of {sorted(available)}, got {fold!r}; None tests on the manifest's test section."
        )
    return available[fold]


def fold_subjects(manifest: Manifest) -> dict[int, set[str]]:
    """Return the subjects that each fold tests on: as the records name it, else dealt into five.

    Raises:
        ValueError: if no record names a fold and there are fewer subjects than five.
    """
    named: dict[int, set[str]] = {}
    for record in manifest.training:
        if "fold" in record:
            named.setdefault(record["fold"], set()).add(record["subject_id"])
    subjects = sorted({record["subject_id"] for record in manifest.training})
    return named or dict(enumerate(map(set, folds(subjects))))


def own_test(manifest: Manifest) -> list[Record]:
    """Return what the manifest itself holds for testing: its labelled test records, or else those of validation."""
    return [record for record in manifest.test if "label" in record] or manifest.validation
