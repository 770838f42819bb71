"""One case looked at from end to end: the steps that training would take, each on its own."""

from __future__ import annotations

import base64
import hashlib
import io
import os.path
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

import nibabel as nib
import numpy as np
import torch
from matplotlib.colors import to_rgb
from monai.data import MetaTensor
from nibabel.affines import voxel_sizes
from PIL import Image

from medssl.data import Manifest
from medssl.data.manifest_checks import UNPLACED
from medssl.engine.overlays import class_colours, fullest_slice
from medssl.readers import KINDS, ScanError, check_scan, doubts, is_placed
from medssl.transforms import KnownLabelsd, LoadScan, ResampleToSpacing, SameGridd, Window
from medssl.transforms.labels import count_values
from medssl.transforms.spacing import AXCODES, voxel_axis

FEW = 0.01  # of the voxels lie within the window
INSIDE = 0.95  # of what is not padding lies within contours
THUMBNAIL = 160  # pixels
SAMPLED = 100_000  # voxels that percentiles are taken from


@dataclass(frozen=True)
class Finding:
    """Something that is wrong, or odd.

    Attributes:
        code: which kind, a key of :py:data:`medssl.readers.KINDS`.
        case_id: of the case; empty where it is the data set's.
        file: that has it; empty where it is no file's.
        text: what came, what was wanted, what to do.
    """

    code: str
    case_id: str
    file: str
    text: str

    @property
    def stops(self) -> bool:
        """Whether the case is refused."""
        return KINDS[self.code].stops


@dataclass
class Case:
    """What was found in one case.

    Attributes:
        case_id, subject_id, section: as in the manifest.
        facts: ``shape`` in the file's ``axes``, number of ``slices``, their ``spacing`` (depth, height, width, mm),
            ``intensities`` (lowest, 1st, 50th, 99th percentile, highest), ``millilitres`` of every class contoured.
        findings: what is wrong.
        voxels: SHA-256 of the image's voxels; empty where it could not be read.
        thumbnail: PNG of one slice and its label, base64; empty where it could not be read.
    """

    case_id: str
    subject_id: str
    section: str
    facts: dict[str, Any] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    voxels: str = ""
    thumbnail: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON takes it."""
        return asdict(self)

    @classmethod
    def from_json(cls, raw: dict[str, Any]) -> Case:
        """Return what :py:meth:`to_json` gave."""
        return cls(**{**raw, "findings": [Finding(**finding) for finding in raw["findings"]]})

    def note(self, code: str, file: str, text: str) -> None:
        """Add a finding."""
        self.findings.append(Finding(code, self.case_id, file, text))

    @contextmanager
    def noting(self, code: str, file: str) -> Iterator[None]:
        """Turn what is raised into a finding."""
        try:
            yield
        except ScanError as error:
            self.note(error.code, error.file, f"{error.reason}; {KINDS[error.code].remedy}")
        except ValueError as error:
            self.note(code, file, str(error))


def inspect_case(record: dict[str, Any], section: str, manifest: Manifest, headers: bool = False) -> Case:
    """Read a case's files to their end, and check them as training would.

    Args:
        record: of the manifest.
        section: that it stands in.
        manifest: of the data set.
        headers: look at headers and lengths alone where these tell what a file holds.
    """
    case = Case(record["case_id"], record["subject_id"], section)
    image, label = (load(record, key, manifest, case, headers) for key in ("image", "label"))
    if image is not None:
        check_grid(image, record["image"], manifest, case)
    if headers:
        if image is not None and label is not None:
            with case.noting("grid", record["label"]):
                SameGridd(["image", "label"])({"image": image, "label": label})
        return case
    if image is not None:
        check_voxels(image, record["image"], manifest, case)
    if label is not None:
        with case.noting("labels", record["label"]):
            entries: dict[Hashable, Any] = {key: label if key == "label" else value for key, value in record.items()}
            checked = KnownLabelsd("label", manifest.labels, manifest.label_policy)(entries)
            check_label(checked["label"], record, manifest, case)
    if image is not None and label is not None:
        with case.noting("grid", record["label"]):
            SameGridd(["image", "label"])({"image": image, "label": label})
            if betrayed := betraying_slices(image, label, manifest):
                case.note(
                    "support",
                    record["image"],
                    f"in {betrayed} slices the image is there only where it was contoured; {KINDS['support'].remedy}",
                )
    if image is not None:
        fits = label is not None and label.shape == image.shape
        case.thumbnail = thumbnail(image, label if fits else None, manifest)
    return case


def load(record: dict[str, Any], key: str, manifest: Manifest, case: Case, headers: bool) -> MetaTensor | None:
    """Return a volume :math:`(1, X, Y, Z)`, of a header zeros, or None where it cannot be used."""
    if key not in record:
        return None
    with case.noting("unreadable", record[key]):
        volume = (grid_of if headers else LoadScan())(record[key], record.get("frame"))
        if key == "image" and "sha256" in record and not headers:
            check_digest(record[key], record["sha256"])
        if not is_placed(record[key]):
            case.note("header" if manifest.assume_affine else "geometry", record[key], UNPLACED)
        for doubt in doubts(record[key]):
            case.note("header", record[key], f"{doubt}; {KINDS['header'].remedy}")
        return volume
    return None


def check_digest(file: str, wanted: str) -> None:
    """Refuse a file of another SHA-256."""
    if not os.path.isfile(file):
        raise ScanError("manifest", file, "sha256 is of a file, this is the folder of a series")
    with open(file, "rb") as stream:
        came = hashlib.file_digest(stream, "sha256").hexdigest()
    if came != wanted:
        raise ScanError("damaged", file, f"its SHA-256 must be {wanted}, it is {came}")


def grid_of(file: str, frame: int | None) -> MetaTensor:
    """Return the grid of a scan whose voxels were not read: one zero that stands for them all."""
    scan = check_scan(file, frame)
    return MetaTensor(torch.zeros(1).expand(1, *scan.shape[:3]), meta={"affine": scan.affine, "filename_or_obj": file})


def check_grid(image: MetaTensor, file: str, manifest: Manifest, case: Case) -> None:
    """Note what is wrong with the grid of an image, and what it is like."""
    affine, shape = np.asarray(image.affine), image.shape[1:]
    sizes, axis = voxel_sizes(affine), voxel_axis(affine, manifest.slice_axis)
    case.facts |= {"shape": list(shape), "axes": "".join(nib.aff2axcodes(affine)), "slices": shape[axis]}
    with case.noting("slice_axis", file):
        letter = ResampleToSpacing((None, None, None), manifest.slice_axis).axis(image)
        sides = [voxel_axis(affine, code) for code in AXCODES[letter]]
        case.facts["spacing"] = sizes[sides].round(3).tolist()
    if shape[axis] < 2:
        case.note("thin", file, f"there is a single slice along {manifest.slice_axis}; {KINDS['thin'].remedy}")
    if sizes[axis] < 0.5 * sizes.max():
        text = f"voxels are {sizes[axis]:.3g} mm along {manifest.slice_axis}, {sizes.max():.3g} mm along another axis"
        case.note("slice_axis", file, f"{text}; {KINDS['slice_axis'].remedy}")


def check_voxels(image: MetaTensor, file: str, manifest: Manifest, case: Case) -> None:
    """Note what is wrong with the voxels of an image, and what they are like."""
    voxels = np.asarray(image)
    content = hashlib.sha256(np.array(image.shape[1:]).data)
    content.update(np.ascontiguousarray(voxels.T).data)  # as they lie in the file
    case.voxels = content.hexdigest()
    sample = voxels.ravel(order="K")[:: max(1, voxels.size // SAMPLED)]
    with np.errstate(invalid="ignore"):
        spread = [voxels.min(), *np.percentile(sample, [1, 50, 99]), voxels.max()]
    case.facts["intensities"] = [round(float(value), 2) for value in spread]
    window = Window(**manifest.window)
    with case.noting("intensities", file):
        window.check(image)
        low, high = manifest.window.get("hu", (-np.inf, np.inf))
        share = float(((sample >= low) & (sample <= high)).mean())
        if share < FEW:
            text = f"{share:.1%} of the voxels lie within the window {low:g} to {high:g}"
            case.note("window", file, f"{text}; {KINDS['window'].remedy}")


def check_label(label: MetaTensor, record: dict[str, Any], manifest: Manifest, case: Case) -> None:
    """Note how much of every class that was contoured there is."""
    counts = count_values(np.asarray(label))
    volume = abs(np.linalg.det(np.asarray(label.affine)[:3, :3])) / 1000  # ml
    known = record.get("known_classes", manifest.labels)
    classes = {number: name for number, name in manifest.labels.items() if number and number in known}
    case.facts["millilitres"] = {
        name: round(counts.get(number, 0) * float(volume), 3) for number, name in classes.items()
    }
    if counts.keys() == {0}:
        case.note("empty", record["label"], f"it holds background alone; {KINDS['empty'].remedy}")


def betraying_slices(image: MetaTensor, label: MetaTensor, manifest: Manifest) -> int:
    """Return in how many slices the image is padding but for what was contoured.

    Of some sets the scan outside the treated region was kept inside contours alone: a network learns to find what is
    not padding.
    """
    axis = voxel_axis(np.asarray(image.affine), manifest.slice_axis)
    voxels, contoured = np.asarray(image[0]), np.asarray(label[0]) > 0
    others = tuple(other for other in range(3) if other != axis)
    there = voxels > voxels.min()
    pixels = there.sum(axis=others)
    inside = (there & contoured).sum(axis=others)
    return int(((pixels > 0) & (inside > INSIDE * pixels)).sum())


def thumbnail(image: MetaTensor, label: MetaTensor | None, manifest: Manifest) -> str:
    """Return a PNG, base64: the slice with most foreground, or the middle one, turned as training sees it."""
    affine = np.asarray(image.affine)
    axis = voxel_axis(affine, manifest.slice_axis)
    place = image.shape[1 + axis] // 2 if label is None else fullest_slice(np.asarray(label[0]), axis)
    turn = ResampleToSpacing((None, None, None), manifest.slice_axis)
    try:
        pixels = np.nan_to_num(np.asarray(turn(image.narrow(1 + axis, place, 1))[0, 0]))  # (H, W)
        _, *sides = [voxel_axis(affine, code) for code in AXCODES[turn.axis(image)]]
    except ValueError:  # it is among the findings
        return ""
    low, high = np.percentile(pixels, [0.5, 99.5])
    grey = np.clip((pixels - low) / max(high - low, 1e-6), 0, 1)
    colours = np.repeat(grey[..., None], 3, axis=2)
    if label is not None:
        mask = np.asarray(turn(label.narrow(1 + axis, place, 1))[0, 0])
        for number, colour in enumerate(class_colours(manifest.num_classes), start=1):
            colours[mask == number] = 0.5 * colours[mask == number] + 0.5 * np.array(to_rgb(colour))
    rows, columns = voxel_sizes(affine)[sides] * pixels.shape  # mm
    scale = THUMBNAIL / max(rows, columns)
    size = (max(1, round(columns * scale)), max(1, round(rows * scale)))
    stream = io.BytesIO()
    Image.fromarray((255 * colours).astype(np.uint8)).resize(size).save(stream, "png")
    return base64.b64encode(stream.getvalue()).decode()
