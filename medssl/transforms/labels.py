"""Label maps that hold the ids of their manifest and no others."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.config.type_definitions import NdarrayOrTensor
from monai.transforms import LabelFilter, MapTransform, Transform

from medssl.transforms.origin import origin


class KnownLabels(Transform):
    """Turn the ids that a manifest's ``label_policy`` drops into background, and refuse every other stray id.

    A stray id would otherwise surface in the loss, as an index out of bounds that names no case, or be trained on as a
    class of its own.

    Args:
        labels: ids that are classes, such as ``manifest.labels``.
        policy: ``"drop"`` for ids that become background; ``"other"`` means every id that is no class.

    Shape:
        - label: any shape, whole numbers of any type.
        - output: the same shape and type.

    Raises:
        ValueError: for a policy other than ``"drop"``; when called, for ids that are neither classes nor dropped, and
            for fractions, which an interpolation of labels leaves behind. The message names the file and the voxels.
    """

    def __init__(self, labels: Mapping[int, str] | list[int], policy: Mapping[str, str] | None = None) -> None:
        unknown = {key: value for key, value in (policy or {}).items() if value != "drop"}
        if unknown:
            raise ValueError(f"labels are dropped or refused, got {unknown}; nothing ignores voxels yet: drop them.")
        self.labels, self.policy = sorted(labels), dict(policy or {})
        self.filter = LabelFilter(self.labels)

    def __call__(self, label: NdarrayOrTensor) -> NdarrayOrTensor:
        """Return the label map with its classes alone."""
        voxels = count_values(np.asarray(label))
        stray = {value: count for value, count in voxels.items() if value not in self.labels}
        fractions = {value: count for value, count in stray.items() if value % 1 != 0}  # NaN too
        if fractions:
            raise ValueError(
                f"labels must be whole numbers, got {shown(fractions)}{origin(label)}; resample them with mode nearest."
            )
        refused = {value: n for value, n in stray.items() if not {"other", str(round(value))} & self.policy.keys()}
        if refused:
            raise ValueError(
                f"labels must be among {self.labels}, got {shown(refused)}{origin(label)}; "
                "name the ids in the manifest's labels, or drop them in its label_policy."
            )
        return self.filter(label) if stray else label


class KnownLabelsd(MapTransform):
    """Dictionary-based :py:class:`KnownLabels`: ``KnownLabelsd("label", manifest.labels, manifest.label_policy)``.

    Adds ``known`` :math:`(C)` bool, which classes were contoured, and takes the record's ``known_classes`` away: all of
    them where it has none. Where an organ was not contoured its voxels are labelled background, which must be neither
    learnt nor judged: see :py:class:`medssl.losses.KnownClassesLoss`.

    Raises:
        ValueError: where a label map holds a class that is not among its known ones.
    """

    def __init__(
        self,
        keys: KeysCollection,
        labels: Mapping[int, str] | list[int],
        policy: Mapping[str, str] | None = None,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.known = KnownLabels(labels, policy)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the dictionary with its label maps checked."""
        contoured = {0, *data.get("known_classes", self.known.labels)}
        known = torch.tensor([label in contoured for label in range(max(self.known.labels) + 1)])
        labels = {key: self.known(data[key]) for key in self.key_iterator(data)}
        for key, label in labels.items() if "known_classes" in data else ():
            if strays := sorted(count_values(np.asarray(label)).keys() - contoured):
                raise ValueError(
                    f"{key} of case {data.get('case_id', '')} holds {strays}, which its known_classes "
                    f"{sorted(contoured - {0})} leave out: correct the manifest."
                )
        others = {key: value for key, value in data.items() if key != "known_classes"}
        return {**others, **labels, "known": known}


def count_values(label: np.ndarray) -> dict[float, int]:
    """Return how many voxels hold each value; small whole numbers, as ids are, without sorting."""
    values = label.ravel(order="K")
    if (
        values.size
        and 0 <= values.min() <= values.max() < 2**16
        and (values == (ids := values.astype(np.uint16))).all()
    ):
        counts = np.bincount(ids)
        return {float(value): int(counts[value]) for value in counts.nonzero()[0]}
    found, counts = np.unique(values, return_counts=True)
    return dict(zip(found.tolist(), counts.tolist(), strict=True))


def shown(values: Mapping[float, int]) -> str:
    """Write values and how many voxels hold them, the first five."""
    listed = [f"{value:g} ({count} voxels)" for value, count in values.items()]
    return ", ".join(listed[:5]) + (f" and {len(listed) - 5} more values" if len(listed) > 5 else "")
