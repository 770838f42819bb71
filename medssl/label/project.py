"""A folder of scans that is being annotated: what is known of it, and what can be done next."""

from __future__ import annotations

import hashlib
import json
import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock
from monai.bundle import run
from nibabel.affines import voxel_sizes

from medssl.atomic import replace
from medssl.data import Manifest
from medssl.data.scan_folder import FIELD, matches
from medssl.data.write_manifest import write_manifest
from medssl.engine import read_receipt
from medssl.label.quarantine import left_out, quarantine
from medssl.label.scan_embeddings import KeptFeatures, scan_embeddings, slice_features
from medssl.label.suggestions import Pool, Suggestion, suggest
from medssl.label.uncertainty import uncertainties
from medssl.readers import read_header
from medssl.resources import resource
from medssl.transforms.spacing import voxel_axis

logger = logging.getLogger(__name__)
STATE = "medssl"  # folder of what is made, beside the scans
SLICE_AXIS = "S"
SIDE = 16  # that the sides of slices are multiples of, for five levels


class Project:
    """The scans of a folder, their annotations, and the weights made of both.

    All that is made goes to ``medssl`` in that folder: ``manifest.json``, a folder per training, and what encoders and
    networks make of the scans. Trainings take up where they were killed.

    Args:
        folder: of the scans, NIfTI.
        labels: names of the organs, in the order of their ids, from 1.
        modality: of the scans, such as CT or MR, which decides the window.
        largest: side that slices may have at most, in pixels; more is cut off around the centre.
        small: train the small networks, for a CPU.
        pattern: of the names of the scans, such as ``"{subject}_{visit}"``, where a person has several; one of another
            name is its person's only one. Expressions as of :py:func:`medssl.data.scan_folder.scan_folder`.

    Raises:
        ValueError: if the pattern has no field ``subject`` or cannot be read.
    """

    def __init__(
        self,
        folder: str | Path,
        labels: Sequence[str],
        modality: str = "MR",
        largest: int = 256,
        small: bool = True,
        pattern: str = "{subject}",
    ) -> None:
        self.folder, self.labels, self.modality = Path(folder), list(labels), modality
        self.largest, self.small, self.pattern = largest, small, pattern
        self.state = self.folder / STATE
        if "subject" not in dict(FIELD.findall(pattern)):
            raise ValueError(
                f"pattern must have the field {{subject}}, such as {{subject}}_{{visit}}, got {pattern!r}."
            )
        self.subject_of("")

    def fits(self, case: str) -> dict[str, str]:
        """Return the fields of a scan's name, none where the pattern does not fit."""
        found = matches([case], self.pattern, {name: told for name, told in FIELD.findall(self.pattern) if told})
        return found[0][1] if found else {}

    def subject_of(self, case: str) -> str:
        """Return the id of the person that a scan is of."""
        return self.fits(case).get("subject", case)

    @property
    def left_out(self) -> dict[str, str]:
        """Why scans are left out, by id, as of the last manifest."""
        return left_out(self.state / "scans.json")

    def manifest(self, images: Mapping[str, Path], annotations: Mapping[str, Path]) -> Manifest:
        """Write and load the manifest of the scans as they are now, those that cannot be used left out.

        Spacing and window stay those of the first one: weights are made for them.

        Args:
            images: file of every scan by its id.
            annotations: label map of those that have one, by the same ids.

        Raises:
            ValueError: if no scan can be used.
        """
        self.state.mkdir(exist_ok=True)
        with FileLock(self.state / "manifest.lock"):  # trainings and scores are processes of their own
            return self.write(images, annotations)

    def write(self, images: Mapping[str, Path], annotations: Mapping[str, Path]) -> Manifest:
        """Write and load the manifest; see :py:meth:`manifest`."""
        apart = quarantine(images, annotations, self.state / "scans.json")
        for case, reason in apart.items():
            logger.warning("%s is left out: %s", case, reason)
        if images and len(apart) == len(images):
            raise ValueError(f"none of the {len(images)} scans can be used: {next(iter(apart.values()))}")
        file = self.state / "manifest.json"
        before = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
        records: dict[str, list[dict[str, str]]] = {"training": [], "unlabeled": []}
        for case, image in sorted((case, image) for case, image in images.items() if case not in apart):
            place = str(image.relative_to(self.folder))
            record = {"case_id": case, "subject_id": self.subject_of(case), "image": place}
            if case in annotations:
                record["label"] = str(annotations[case].relative_to(self.folder))
            records["training" if case in annotations else "unlabeled"].append(record)
        facts = {
            "name": self.folder.name,
            "modality": {"0": self.modality},
            "slice_axis": SLICE_AXIS,
            "labels": {str(number): name for number, name in enumerate(["background", *self.labels])},
            **records,
            # Last, where they are written when they are found: the same scans have the same manifest to the byte.
            **{key: before[key] for key in ("window", "spacing") if key in before},
        }
        return write_manifest(facts, self.folder, file)

    def weights(self, kind: str) -> Path | None:
        """Return the latest weights of ``"pretrain"`` or ``"finetune"``, those of a training that came to its end."""
        pointer = self.state / kind / "current.json"
        if not pointer.is_file():
            return None
        return self.state / kind / json.loads(pointer.read_text(encoding="utf-8"))["run"] / "model.pt"

    def pretrain(self, manifest: Manifest, method: str = "sal", **options: Any) -> Path:
        """Pre-train on all scans, annotated or not.

        Args:
            manifest: of the scans.
            method: overlay of the pretrain bundle.
            options: of that bundle, such as ``max_epochs``.

        Returns:
            The weights.
        """
        size = {"image_size": self.image_size(manifest)}
        return self.train("pretrain", [method], manifest, {"transductive": True, **size, **options})

    def finetune(self, manifest: Manifest, **options: Any) -> Path:
        """Fine-tune on every annotated scan, from the pre-trained weights where there are any.

        Raises:
            ValueError: if no scan is annotated.
        """
        if not manifest.training:
            raise ValueError("no scan has a final annotation yet; save one before fine-tuning.")
        start = self.weights("pretrain")
        size = self.image_size(manifest)
        settings = {"image_size": size, "crop_size": size, "pretrained": None if start is None else str(start)}
        return self.train("finetune", ["every_label"], manifest, settings | options)

    def train(self, bundle: str, overlays: Sequence[str], manifest: Manifest, options: Mapping[str, Any]) -> Path:
        """Run a bundle in a folder of its own, and make its weights the latest where it ends."""
        names = ["train", *overlays, *(["small"] if self.small else [])]
        name = recipe_name(bundle, names, manifest, options)
        output = self.state / bundle / name
        # A copy of its own: the manifest is written anew whenever somebody asks for something.
        text = manifest.path.read_bytes()
        if hashlib.sha256(text).hexdigest() != manifest.sha256:
            raise ValueError("the annotations changed at this very moment; press it again.")
        replace(output / "manifest.json", partial(Path.write_bytes, data=text))
        run(
            config_file=[str(resource(f"bundles/{bundle}/configs/{overlay}.yaml")) for overlay in names],
            manifest_file=str(output / "manifest.json"),
            dataset_dir=str(self.folder),
            output_dir=str(output),
            **{key: value for key, value in options.items() if value is not None},
        )
        latest = json.dumps({"run": name})
        replace(self.state / bundle / "current.json", partial(Path.write_text, data=latest, encoding="utf-8"))
        return output / "model.pt"

    def image_size(self, manifest: Manifest) -> list[int]:
        """Return the sides (height, width) of slices that hold the scans, multiples of 16."""
        sides = []
        for record in [*manifest.training, *manifest.unlabeled]:
            scan = read_header(record["image"])
            axis = voxel_axis(scan.affine, manifest.slice_axis)
            plane = [other for other in range(3) if other != axis]
            own, pixels = voxel_sizes(scan.affine)[plane], np.array(scan.shape)[plane]
            finest = min(side for side in manifest.spacing[1:] if side is not None)
            sides.append(max(own * pixels) / finest)
        longest = round(max(sides), 1)  # a header's rounding makes no pixel more
        side = min(self.largest, math.ceil(longest / SIDE) * SIDE)
        return [side, side]

    def segment(self, image: str | Path, output: str | Path) -> tuple[Path, list[str]]:
        """Segment a scan with the latest fine-tuned weights, on its own grid.

        Returns:
            The mask, NIfTI of whole numbers, in the folder ``output``; and the names of its ids, background first,
            which are those that the network has learnt: others may have been added since.

        Raises:
            FileNotFoundError: if nothing has been fine-tuned yet.
        """
        weights = self.weights("finetune")
        if weights is None:
            raise FileNotFoundError("no network has been fine-tuned yet; annotate a few scans and press finetune.")
        config = resource("bundles/finetune/configs/inference.yaml")
        options = {"checkpoint": str(weights), "output_dir": str(output), "dataset#data": [{"image": str(image)}]}
        run(config_file=str(config), logging_file=False, **options)
        (mask,) = Path(output).glob("*_seg.nii.gz")
        return mask, read_receipt(weights, "finetune")["classes"]

    def embed(self, manifest: Manifest) -> None:
        """Embed every scan with the latest pre-trained encoder, those that it has not seen yet.

        Raises:
            FileNotFoundError: if nothing has been pre-trained yet.
        """
        weights = self.weights("pretrain")
        if weights is None:
            raise FileNotFoundError("nothing has been pre-trained yet; press pretrain.")
        records = [*manifest.training, *manifest.unlabeled]
        embeddings = scan_embeddings(list(slice_features(weights, records, self.state / "features")))
        cases = np.array([record["case_id"] for record in records])
        images = np.array([str(Path(record["image"]).relative_to(self.folder)) for record in records])

        def save(part: Path) -> None:
            with part.open("wb") as stream:
                np.savez(stream, cases=cases, images=images, embeddings=embeddings)

        replace(self.state / "embeddings.npz", save)

    def measure_uncertainty(self, manifest: Manifest) -> dict[str, float]:
        """Return, and keep, how unsure the latest fine-tuned network is of the scans without an annotation."""
        weights = self.weights("finetune")
        if weights is None:
            raise FileNotFoundError("no network has been fine-tuned yet; annotate a few scans and press finetune.")
        cases = [record["case_id"] for record in manifest.unlabeled]
        found = dict(zip(cases, uncertainties(weights, manifest.unlabeled, self.state / "uncertainties"), strict=True))
        text = json.dumps(found)
        replace(self.state / "uncertainties.json", partial(Path.write_text, data=text, encoding="utf-8"))
        return found

    def next_scans(self, annotated: Sequence[str], with_uncertainty: bool = False) -> Iterator[Suggestion]:
        """Yield the scans to annotate next, of those that have been embedded; see :py:meth:`pool`."""
        pool = self.pool(annotated, with_uncertainty)
        if pool is not None:
            yield from suggest(pool)

    def pool(self, annotated: Sequence[str], with_uncertainty: bool = False) -> Pool | None:
        """Return the scans that have been embedded, None where none has.

        Args:
            annotated: ids of the scans that have an annotation.
            with_uncertainty: weigh in what the latest network was unsure of, where that is known.
        """
        file = self.state / "embeddings.npz"
        if not file.is_file():
            return None
        with np.load(file, allow_pickle=False) as stored:
            cases, images = stored["cases"].tolist(), stored["images"].tolist()
            embeddings = stored["embeddings"]
        known = self.state / "uncertainties.json"
        unsure = json.loads(known.read_text(encoding="utf-8")) if with_uncertainty and known.is_file() else None
        done = set(annotated)
        return Pool(
            records=[
                {"case_id": case, "subject_id": self.subject_of(case), "image": str(self.folder / image)}
                for case, image in zip(cases, images, strict=True)
            ],
            features=KeptFeatures(self.state / "features", cases),
            embeddings=embeddings,
            annotated=[place for place, case in enumerate(cases) if case in done],
            uncertainty=None if unsure is None else np.array([unsure.get(case, np.nan) for case in cases]),
        )


def recipe_name(bundle: str, overlays: Sequence[str], manifest: Manifest, options: Mapping[str, Any]) -> str:
    """Return the name of a training's folder: the same recipe goes on, another one begins anew."""
    recipe = json.dumps([bundle, list(overlays), manifest.sha256, dict(sorted(options.items()))], default=str)
    return hashlib.sha256(recipe.encode()).hexdigest()[:12]
