"""Label maps that hold the ids of their manifest and no others."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.config import KeysCollection
from monai.config.type_definitions import NdarrayOrTensor
from monai.transforms import LabelFilter, MapTransform, Transform
from monai.utils import convert_to_tensor

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
        found, counts = torch.unique(convert_to_tensor(label, track_meta=False), return_counts=True)
        voxels = dict(zip(found.tolist(), counts.tolist(), strict=True))
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

    A record with ``known_classes`` that leave some out is refused: there an organ nobody looked for would be learnt,
    and judged, as background.
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
        missing = sorted(set(self.known.labels) - {0} - set(data.get("known_classes", self.known.labels)))
        if missing:
            raise ValueError(
                f"a labelled case must have all classes contoured, {data.get('case_id', 'one')} is without {missing}; "
                "nothing masks them yet: leave the case or the classes out of the manifest."
            )
        return {**data, **{key: self.known(data[key]) for key in self.key_iterator(data)}}


def shown(values: Mapping[float, int]) -> str:
    """Write values and how many voxels hold them, the first five."""
    listed = [f"{value:g} ({count} voxels)" for value, count in values.items()]
    return ", ".join(listed[:5]) + (f" and {len(listed) - 5} more values" if len(listed) > 5 else "")
