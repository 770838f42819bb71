"""The annotations of a folder of scans, as MONAI Label keeps them: checked when they come, whole or not there."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from fastapi import HTTPException
from filelock import FileLock
from monailabel.datastore.local import DataModel, LocalDatastore, LocalDatastoreModel
from monailabel.interfaces.datastore import DefaultLabelTag

from medssl.atomic import replace
from medssl.label.project import Project
from medssl.transforms import LoadScand, SameGridd

logger = logging.getLogger(__name__)


class Annotations(LocalDatastore):
    """A folder of scans whose annotations are checked when they come, and on disk whole or not at all.

    Args:
        folder: of the scans.
        project: that knows the labels.
    """

    def __init__(self, folder: str, project: Project) -> None:
        state = Path(folder) / "datastore_v2.json"
        try:
            LocalDatastoreModel.model_validate_json(state.read_text(encoding="utf-8"))
        except FileNotFoundError:
            pass
        except ValueError:  # a list of what is in the folder: it is made anew from the files
            logger.warning("%s is damaged; it is made anew from the files.", state)
            state.replace(state.with_suffix(".damaged"))
        self.ids = {name.lower(): number for number, name in enumerate(project.labels, start=1)}
        self.organs = project.labels
        super().__init__(folder, extensions=("*.nii.gz", "*.nii"), auto_reload=False)

    def save_label(self, image_id: str, label_filename: str, label_tag: str, label_info: dict[str, Any]) -> str:
        """Check a label map and keep it, the one before as ``ID.previous``.

        Args:
            image_id: of the scan.
            label_filename: NIfTI.
            label_tag: ``final``, or ``original`` of a proposal.
            label_info: what the viewer says of it. Where that has the names of the segments, as 3D Slicer's has, they
                decide which organ is which: Slicer numbers segments by their place in its list.

        Raises:
            HTTPException: if there is no such scan or tag, or the label is no NIfTI, does not lie on the scan's grid,
                cannot be read to its end, or holds segments that are no organs.
        """
        scan = self._datastore.objects.get(image_id)
        if scan is None:
            raise HTTPException(404, f"there is no scan {image_id}.")
        if label_tag not in list(DefaultLabelTag):
            raise HTTPException(400, f"tag must be {' or '.join(DefaultLabelTag)}, got {label_tag!r}.")
        if not label_filename.endswith((".nii", ".nii.gz")):
            raise HTTPException(400, f"a label must be .nii.gz or .nii, got {Path(label_filename).name}.")
        try:
            pair = LoadScand(["image", "label"])({"image": self.get_image_uri(image_id), "label": label_filename})
            voxels = SameGridd(["image", "label"])(pair)["label"][0].numpy()
            ids = self.ids_of((label_info or {}).get("label_info") or [])
            if strange := sorted(set(np.unique(voxels).tolist()) - {0, *ids}):
                organs = ", ".join(f"{number} {name}" for number, name in enumerate(self.organs, start=1))
                raise ValueError(f"a label of {image_id} holds {strange}; it may hold 0, and {organs}.")
        except ValueError as error:
            raise HTTPException(400, str(error).replace(label_filename, f"the label of {image_id}")) from error
        by_id = np.zeros(max(ids, default=0) + 1, np.uint8)
        by_id[list(ids)] = list(ids.values())
        label = nib.Nifti1Image(by_id[voxels.astype(int)], pair["label"].affine.numpy())
        ending = ".nii.gz"  # of all: with two of a scan nobody could tell which is the later one
        file = Path(self._datastore.label_path(label_tag)) / self._filename(image_id, ending)
        with FileLock(self._lock_file):
            replace(file, partial(nib.save, label), keep=True)
            facts = {**(label_info or {}), "ts": int(time.time()), "name": file.name}
            scan.labels[label_tag] = DataModel(info=facts, ext=ending)
            self._update_datastore_file(lock=False)
        return image_id

    def ids_of(self, segments: Sequence[Any]) -> dict[int, int]:
        """Return the id of the organ for each id in a label map, by the names of its segments; without names the same.

        Raises:
            ValueError: for a name that is no organ's.
        """
        told = [segment for segment in segments if isinstance(segment, Mapping) and {"idx", "name"} <= segment.keys()]
        names = {int(segment["idx"]): str(segment["name"]) for segment in told}
        names.pop(0, None)
        if strange := [name for name in names.values() if name.lower() not in self.ids]:
            raise ValueError(f"segments must be named {', '.join(self.organs)}, got {', '.join(strange)}; rename them.")
        if not names:
            return {number: number for number in self.ids.values()}
        return {idx: self.ids[name.lower()] for idx, name in names.items()}

    def _update_datastore_file(self, lock: bool = True) -> None:
        """Write the list of what there is; a reader never sees half of it."""
        if lock:
            with FileLock(self._lock_file):
                self._update_datastore_file(lock=False)
            return
        text = json.dumps(self._datastore.model_dump(exclude={"base_path"}), indent=2, default=str)
        file = Path(self._datastore_config_path)
        self._ignore_event_config = True
        replace(file, partial(Path.write_text, data=text, encoding="utf-8"))
        self._config_ts = file.stat().st_mtime
