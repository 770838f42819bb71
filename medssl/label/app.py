"""The MONAI Label app: pre-train, annotate what is worth most, fine-tune. :py:mod:`medssl.label.server` serves it.

The one module, with the server, that needs MONAI Label; it holds what its interfaces ask for and nothing else.
"""

from __future__ import annotations

import json
import logging
import shutil
import tempfile
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
from monailabel.interfaces.app import MONAILabelApp
from monailabel.interfaces.datastore import Datastore, DefaultLabelTag
from monailabel.interfaces.tasks.infer_v2 import InferTask, InferType
from monailabel.interfaces.tasks.scoring import ScoringMethod
from monailabel.interfaces.tasks.strategy import Strategy
from monailabel.interfaces.tasks.train import TrainTask

from medssl.atomic import replace
from medssl.data import Manifest
from medssl.engine import read_receipt
from medssl.label.project import Project
from medssl.transforms import LoadScand, SameGridd

logger = logging.getLogger(__name__)
# Overlays of the pretrain bundle that make a U-Net of slices from any scans, each by itself.
METHODS = ["sal", "lrc", "pcl", "simclr", "moco_v2", "byol", "rotation", "relative_location"]


class App(MONAILabelApp):
    """Everything that the folder of scans offers to a viewer."""

    def __init__(self, app_dir: str, studies: str, conf: Mapping[str, str]) -> None:
        labels = [name.strip() for name in conf["labels"].split(",")]
        self.project = Project(
            studies,
            labels,
            modality=conf.get("modality", "MR"),
            small=conf.get("small", "true").lower() != "false",
            pattern=conf.get("pattern", "{subject}"),
        )
        numbers = {name: number for number, name in enumerate(labels, start=1)}
        super().__init__(
            app_dir,
            studies,
            dict(conf),
            name="medssl",
            description="Pre-train on all scans, annotate the ones that add most, fine-tune on these",
            labels=numbers,
        )

    def infer(self, request: dict[str, Any], datastore: Datastore | None = None) -> Any:
        """Segment; where it is to be kept, as a proposal: final annotations are a person's."""
        if request.get("image") not in self.datastore().list_images():
            raise HTTPException(404, f"there is no scan {request.get('image')!r} in the folder.")
        return super().infer({**request, "label_tag": DefaultLabelTag.ORIGINAL.value}, datastore)

    def init_datastore(self) -> Datastore:
        """Return the folder of scans and annotations."""
        return Annotations(self.studies, self.project)

    def init_infers(self) -> dict[str, InferTask]:
        """Return what proposes annotations."""
        return {"segmentation": Segment(self.project)}

    def init_trainers(self) -> dict[str, TrainTask]:
        """Return what can be trained."""
        return {"pretrain": Pretrain(self.project), "finetune": Finetune(self.project)}

    def init_strategies(self) -> dict[str, Strategy]:
        """Return the ways to choose a scan."""
        return {
            "first_scans": NextScan(self.project, with_uncertainty=False),
            "next_scan": NextScan(self.project, with_uncertainty=True),
        }

    def init_scoring_methods(self) -> dict[str, ScoringMethod]:
        """Return what is computed of scans, for the strategies."""
        return {"embedding": Embedding(self.project), "uncertainty": Uncertainty(self.project)}


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


def manifest_of(project: Project, datastore: Datastore) -> Manifest:
    """Return the manifest of the scans and of their final annotations as they are now."""
    images = {case: Path(datastore.get_image_uri(case)) for case in datastore.list_images()}
    final = DefaultLabelTag.FINAL
    annotated = {case: Path(datastore.get_label_uri(case, final)) for case in datastore.get_labeled_images()}
    return project.manifest(images, annotated)


class Pretrain(TrainTask):
    """Pre-train on all scans, with no annotation."""

    def __init__(self, project: Project) -> None:
        super().__init__("Pre-train on all scans of the folder; it takes no annotation")
        self.project = project

    def config(self) -> dict[str, Any]:
        """Return what may be set, with its default; of a list the first."""
        return {"method": METHODS, "max_epochs": 30, "steps_per_epoch": 100, "num_slices": 16}

    def __call__(self, request: Mapping[str, Any], datastore: Datastore) -> dict[str, Any]:
        """Train, and embed the scans."""
        manifest, chosen = manifest_of(self.project, datastore), options(self, request)
        method = chosen.pop("method")
        if method not in METHODS:
            raise ValueError(f"method must be one of {', '.join(METHODS)}, got {method}.")
        weights = self.project.pretrain(manifest, method, **chosen)
        self.project.embed(manifest)
        return {"weights": str(weights), "left_out": self.project.left_out}


class Finetune(TrainTask):
    """Fine-tune on every annotated scan."""

    def __init__(self, project: Project) -> None:
        super().__init__("Fine-tune the pre-trained network on every scan with a final annotation")
        self.project = project

    def config(self) -> dict[str, Any]:
        """Return what may be set, with its default."""
        return {"max_epochs": 6, "steps_per_epoch": 100}

    def __call__(self, request: Mapping[str, Any], datastore: Datastore) -> dict[str, Any]:
        """Train, and see what the network is unsure of."""
        manifest = manifest_of(self.project, datastore)
        weights = self.project.finetune(manifest, **options(self, request))
        self.project.measure_uncertainty(manifest)
        return {"weights": str(weights)}


def options(task: TrainTask, request: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a training: as asked for, or their defaults.

    Raises:
        ValueError: for a number that is none.
    """
    defaults = {name: value[0] if isinstance(value, list) else value for name, value in task.config().items()}
    asked = {name: request.get(name, default) for name, default in defaults.items()}
    for name, default in defaults.items():  # a bundle would run a text that begins with $
        if isinstance(default, int):
            if not str(asked[name]).isdecimal() or int(asked[name]) < 1:
                raise ValueError(f"{name} must be a whole number of at least 1, got {asked[name]!r}.")
            asked[name] = int(asked[name])
    return asked


class Segment(InferTask):
    """Propose an annotation, on the scan's own grid."""

    def __init__(self, project: Project) -> None:
        labels = {name: number for number, name in enumerate(project.labels, start=1)}
        super().__init__(InferType.SEGMENTATION, labels, 3, "What the latest fine-tuned network makes of a scan")
        self.project = project

    def is_valid(self) -> bool:
        """Whether viewers list it: they do before it can be used, and say why it cannot."""
        return True

    def __call__(self, request: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
        """Segment; return the file and the names of the labels."""
        begin = time.time()
        if Path(request["image"]).parent != self.project.folder:
            raise HTTPException(404, f"there is no scan {Path(request['image']).name} in the folder.")
        # Not among the temporary files: there a client on this machine keeps its copy, under the same name, and the
        # server deletes its own after the answer.
        masks = self.project.state / "masks"
        masks.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory() as folder:
            try:
                mask = self.project.segment(request["image"], folder)
            except FileNotFoundError as error:
                raise HTTPException(409, str(error)) from error
            with tempfile.NamedTemporaryFile(suffix=".nii.gz", dir=masks, delete=False) as kept:
                shutil.copyfile(mask, kept.name)
        # The organs of the network that made it, which may have learnt before others were added.
        classes = read_receipt(self.project.weights("finetune") or "", "finetune")["classes"]
        labels = {name: number for number, name in enumerate(classes) if number}
        return kept.name, {"label_names": labels, "latencies": {"total": round(time.time() - begin, 2)}}


class NextScan(Strategy):
    """Choose the scan that adds most to those that are annotated."""

    def __init__(self, project: Project, with_uncertainty: bool) -> None:
        by = "by what each adds to those annotated" + (" and what the network is unsure of" if with_uncertainty else "")
        super().__init__(f"The scan that is worth most, {by}")
        self.project, self.with_uncertainty = project, with_uncertainty

    def __call__(self, request: Mapping[str, Any], datastore: Datastore) -> dict[str, Any] | None:
        """Return the id of a scan and why it was chosen; without any embeddings the first that has no annotation."""
        left = set(datastore.get_unlabeled_images()) - self.project.left_out.keys()
        if not left:
            return None
        for one in self.project.next_scans(datastore.get_labeled_images(), self.with_uncertainty):
            if one.case_id in left:
                return {"id": one.case_id, "why": one.why, "slices": one.slices}
        why = "it has not been compared with the others yet: press pretrain, or score by embedding where it came later"
        return {"id": min(left), "why": why, "slices": []}


class Embedding(ScoringMethod):
    """Embed the scans that are new."""

    def __init__(self, project: Project) -> None:
        super().__init__("Compare the scans by the pre-trained encoder, which pretrain does as well")
        self.project = project

    def __call__(self, request: Mapping[str, Any], datastore: Datastore) -> dict[str, Any]:
        """Embed."""
        self.project.embed(manifest_of(self.project, datastore))
        return {}


class Uncertainty(ScoringMethod):
    """See what the network is unsure of."""

    def __init__(self, project: Project) -> None:
        super().__init__("How unsure the latest network is of each scan, which finetune does as well")
        self.project = project

    def __call__(self, request: Mapping[str, Any], datastore: Datastore) -> dict[str, Any]:
        """Segment what has no annotation."""
        return self.project.measure_uncertainty(manifest_of(self.project, datastore))
