"""Which scans of a data set to annotate next, and which of their slices first."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from medssl.data import Manifest
from medssl.data.manifest_checks import SECTIONS
from medssl.label.facility_location import Array, facility_location, outliers
from medssl.label.scan_embeddings import SliceFeatures, scan_embeddings, slice_features
from medssl.label.uncertainty import uncertainties

HALF_AFTER = 40  # annotated scans: fewer have taught a network little about what it does not know


@dataclass(frozen=True)
class Suggestion:
    """A scan that is worth annotating.

    Attributes:
        case_id, subject_id: of the scan.
        place: in the pool.
        gain: what it adds to how well the pool is stood for, the mean cosine of a scan with the nearest annotated one.
        nearer: how many scans of the pool it is nearer to than all annotated and earlier suggested ones.
        nearest: the annotated or earlier suggested scan that is most like it; None for the first of all.
        distance: to that one, in parts of the median distance of two scans of the pool.
        uncertainty: of a fine-tuned network in it, from 0 to 1; None where there is no such network.
        atypical: whether it is among the scans that are least like any other, which come last.
        slices: to annotate first, numbered as in the file, from 0.
    """

    case_id: str
    subject_id: str
    place: int
    gain: float
    nearer: int
    nearest: str | None
    distance: float | None
    uncertainty: float | None
    atypical: bool
    slices: list[int]

    @property
    def why(self) -> str:
        """The reason, in words."""
        if self.atypical:
            return "is like no other scan: look at it before it is annotated"
        stands = f"stands for {self.nearer} scan{'s' if self.nearer != 1 else ''}"
        unsure = "" if self.uncertainty is None else f"; uncertainty {self.uncertainty:.2f}"
        if self.nearest is None:
            return f"{stands}, most like all of them{unsure}"
        far = f"at {self.distance:.2f} of the median distance"
        return f"{stands}; the nearest before it is {self.nearest}, {far}{unsure}"


@dataclass(frozen=True)
class Pool:
    """The scans of a data set as a pre-trained encoder sees them.

    Attributes:
        records: of the manifest.
        features: of their slices.
        embeddings: of the scans (N, D), of length 1.
        annotated: places of those that have a label.
        uncertainty: of a fine-tuned network in each (N), NaN where it has not been asked; None where there is none.
    """

    records: list[dict[str, Any]]
    features: Sequence[SliceFeatures]
    embeddings: Array
    annotated: list[int]
    uncertainty: Array | None = None

    @property
    def weight(self) -> float:
        """Of the uncertainty beside the coverage: none at first, half of all after ``HALF_AFTER`` annotated scans."""
        return 0.0 if self.uncertainty is None else uncertainty_weight(len(self.annotated))


def uncertainty_weight(annotated: int) -> float:
    """Return how much a network's uncertainty counts beside the coverage after some annotated scans."""
    return annotated / (annotated + HALF_AFTER)


def embed_pool(
    manifest: Manifest,
    checkpoint: str | Path,
    folder: str | Path,
    finetuned: str | Path | None = None,
    from_scratch: bool = False,
) -> Pool:
    """Embed every scan of a data set but those of its test section.

    Args:
        manifest: of the data set.
        checkpoint: of the pretrain bundle.
        folder: for what is found, which is kept, see :py:func:`medssl.label.slice_features`.
        finetuned: checkpoint of the finetune bundle, whose uncertainty counts too; None goes by coverage alone.
        from_scratch: as if none had a label.

    Raises:
        ValueError: if no scan is left to annotate.
    """
    records = [record for name in SECTIONS if name != "test" for record in getattr(manifest, name)]
    annotated = [] if from_scratch else [place for place, record in enumerate(records) if "label" in record]
    if len(annotated) == len(records):
        raise ValueError(
            f"all {len(records)} scans of {manifest.name} have labels, none is left to annotate; add scans to its "
            "unlabeled section, or rank them as if none had by --from-scratch."
        )
    features = list(slice_features(checkpoint, records, Path(folder) / "features"))
    unsure = None
    if finetuned is not None:
        unsure = np.full(len(records), np.nan)
        left = [place for place in range(len(records)) if place not in annotated]
        found = uncertainties(finetuned, [records[place] for place in left], Path(folder) / "uncertainties")
        unsure[left] = list(found)
    return Pool(records, features, scan_embeddings(features), annotated, unsure)


def suggest(pool: Pool, count: int | None = None, num_slices: int = 3) -> Iterator[Suggestion]:
    """Yield the scans that are not annotated in the order in which to annotate them.

    Args:
        pool: from :py:func:`embed_pool`.
        count: how many; None for all.
        num_slices: of each scan, to annotate first.
    """
    similarity = pool.embeddings @ pool.embeddings.T
    pairs = similarity[np.triu_indices(len(similarity), 1)]
    usual = distance(float(np.median(pairs))) if pairs.size else 0.0
    last = [place for place in outliers(similarity) if place not in pool.annotated]
    subjects = [record["subject_id"] for record in pool.records]
    before = list(pool.annotated)
    unsure = None if pool.uncertainty is None else np.nan_to_num(pool.uncertainty)
    order = facility_location(similarity, subjects, pool.annotated, last, unsure, pool.weight)
    for place, gain in islice(order, count):
        record, known = pool.records[place], np.nan if pool.uncertainty is None else pool.uncertainty[place]
        nearest = max(before, key=lambda other: similarity[place, other], default=None)
        covered = similarity[before].max(axis=0, initial=-np.inf)
        yield Suggestion(
            case_id=record["case_id"],
            subject_id=record["subject_id"],
            place=place,
            gain=gain,
            nearer=int((similarity[place] > covered).sum()),
            nearest=None if nearest is None else pool.records[nearest]["case_id"],
            distance=None if nearest is None else distance(similarity[place, nearest]) / (usual or 1.0),
            uncertainty=None if np.isnan(known) else float(known),
            atypical=place in last,
            slices=representative_slices(pool.features[place], num_slices),
        )
        before.append(place)


def distance(cosine: float) -> float:
    """Return how far two vectors of length 1 are apart."""
    return float(np.sqrt(max(2 - 2 * cosine, 0.0)))


def representative_slices(scan: SliceFeatures, count: int) -> list[int]:
    """Return the numbers of the slices that stand for a scan, the best first."""
    unit = scan.features / np.maximum(np.linalg.norm(scan.features, axis=1, keepdims=True), 1e-12)
    found = [int(scan.numbers[place]) for place, _ in islice(facility_location(unit @ unit.T), count)]
    return list(dict.fromkeys(found))  # of a volume with more slices than its file, two may be one


def to_table(suggestions: Sequence[Suggestion]) -> pd.DataFrame:
    """Return one row per suggestion, ranked from 1."""
    rows: list[Mapping[str, Any]] = [
        {
            "case_id": one.case_id,
            "subject_id": one.subject_id,
            "slices": " ".join(map(str, one.slices)),
            "gain": round(one.gain, 4),
            "why": one.why,
        }
        for one in suggestions
    ]
    return pd.DataFrame(rows, index=pd.RangeIndex(1, len(rows) + 1, name="rank"))
