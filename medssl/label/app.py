"""The MONAI Label app: pre-train, annotate what is worth most, fine-tune. :py:mod:`medssl.label.server` serves it.

It holds what MONAI Label's interfaces ask for and nothing else.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fastapi import HTTPException
from monailabel.interfaces.app import MONAILabelApp
from monailabel.interfaces.datastore import Datastore, DefaultLabelTag
from monailabel.interfaces.tasks.infer_v2 import InferTask, InferType
from monailabel.interfaces.tasks.scoring import ScoringMethod
from monailabel.interfaces.tasks.strategy import Strategy
from monailabel.interfaces.tasks.train import TrainTask

from medssl.data import Manifest
from medssl.label.annotations import Annotations
from medssl.label.project import Project

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
        if Path(request["image"]).parent != self.project.folder:  # MONAI Label takes an id for a path where it is one
            raise HTTPException(404, f"there is no scan {Path(request['image']).name} in the folder.")
        # Not among the temporary files: there a client on this machine keeps its copy, under the same name, and the
        # server deletes its own after the answer.
        masks = self.project.state / "masks"
        masks.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory() as folder:
            try:
                mask, classes = self.project.segment(request["image"], folder)
            except FileNotFoundError as error:
                raise HTTPException(409, str(error)) from error
            with tempfile.NamedTemporaryFile(suffix=".nii.gz", dir=masks, delete=False) as kept:
                shutil.copyfile(mask, kept.name)
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
