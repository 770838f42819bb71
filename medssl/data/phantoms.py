"""Cardiac MR phantoms: short-axis stacks with a heart, drawn from a seed, for demos and tests without a download."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from scipy.ndimage import gaussian_filter

from medssl.atomic import replace
from medssl.data.splits import folds

Array = np.ndarray[Any, np.dtype[Any]]
SIDE = 96  # pixels in-plane


def write_phantoms(root: str | Path, num_subjects: int = 20, seed: int = 0) -> Path:
    """Write phantoms of ``num_subjects`` hearts at end-diastole and end-systole, and their manifest.

    A stack has 8 to 12 slices of 96 x 96 pixels, about 8 x 1.6 x 1.6 mm. The left ventricle tapers to the apex,
    myocardium surrounds it, the right ventricle lies beside them; lungs, liver, vessels, uneven illumination and Rician
    noise keep it from being solved by thresholds. Subjects differ in size, place, turn, contrast and illumination; each
    is a function of the seed and its number alone.

    Args:
        root: folder that receives ``imagesTr``, ``labelsTr`` and ``dataset.json``.
        num_subjects: at least 5, one a fold.
        seed: of the set.

    Returns:
        Path of the manifest. With the defaults it is the shipped manifest ``phantoms``.
    """
    root = Path(root)
    names = [f"phantom{number:03d}" for number in range(1, num_subjects + 1)]
    fold_of = {name: fold for fold, held_out in enumerate(folds(names)) for name in held_out}
    records = []
    for number, name in enumerate(names):
        for phase in ("ed", "es"):
            image, label, affine = draw_heart(seed, number, phase)
            case = f"{name}_{phase}"
            record: dict[str, Any] = {"case_id": case, "subject_id": name, "fold": fold_of[name]}
            for key, folder, volume in (("image", "imagesTr", image), ("label", "labelsTr", label)):
                record[key] = f"{folder}/{case}.nii.gz"
                replace(root / record[key], nib.Nifti1Image(volume, affine).to_filename)
            records.append(record)
    manifest, text = root / "dataset.json", manifest_text(records)
    replace(manifest, lambda file: file.write_text(text, encoding="utf-8"))
    return manifest


def draw_heart(seed: int, subject: int, phase: str) -> tuple[Array, Array, Array]:
    """Draw one volume: image (x, y, z) int16, label uint8 (1 RV, 2 myocardium, 3 LV), affine."""
    rng = np.random.default_rng((seed, subject))
    depth, spacing = int(rng.integers(8, 13)), np.array([rng.uniform(1.5, 1.7)] * 2 + [rng.uniform(7, 9)])
    x, y, z = np.meshgrid(np.arange(SIDE), np.arange(SIDE), np.linspace(0, 1, depth), indexing="ij")  # z: base to apex
    contraction = rng.uniform(0.62, 0.75)  # drawn in both phases: they are one heart
    beat = 1.0 if phase == "ed" else contraction  # radius of the cavities
    turn, radius = rng.uniform(-0.6, 0.6), rng.uniform(9, 13)
    centre = SIDE / 2 + rng.uniform(-9, 9, 2) + z[0, 0, :, None] * rng.uniform(-6, 6, 2)  # (depth, 2): a tilted axis
    # Coordinates that turn and tilt with the heart; a slow wave keeps its walls from being circles.
    u, v = x - centre[:, 0], y - centre[:, 1]
    u, v = np.cos(turn) * u + np.sin(turn) * v, np.cos(turn) * v - np.sin(turn) * u
    angle = np.arctan2(v, u)
    wave = 1 + 0.06 * np.cos(2 * angle + rng.uniform(0, 6)) + 0.04 * np.cos(3 * angle + rng.uniform(0, 6))
    taper = np.sqrt(np.clip(1.05 - z**2, 0.05, None))
    cavity, wall = radius * taper * beat * wave, rng.uniform(4.5, 6.5) / np.sqrt(beat)
    distance = np.hypot(u, v)
    left, muscle = distance < cavity, distance < cavity + wall
    shift = radius * 1.15
    width = radius * rng.uniform(1.35, 1.6) * np.sqrt(np.clip(1 - z / 0.9, 0, None)) * np.sqrt(beat)
    right = (np.hypot(u + shift + wall, v / rng.uniform(1.1, 1.3)) < width) & ~muscle
    label = np.select([left, muscle, right], [3, 2, 1]).astype(np.uint8)

    # How bright each tissue is, before field and noise.
    blood, flesh = rng.uniform(0.75, 1), rng.uniform(0.3, 0.42)
    fat, lung = rng.uniform(0.55, 0.95), rng.uniform(0.05, 0.12)
    image: Array = np.full(label.shape, rng.uniform(0.2, 0.35))
    middle = SIDE / 2
    image[np.hypot((x - middle) / 1.15, y - middle) > rng.uniform(38, 44)] = fat
    image[np.hypot((x - middle) / 1.15, y - middle) > 47] = 0.02
    for side in (-1, 1):
        centre_x = middle + side * rng.uniform(22, 28)
        image[np.hypot((x - centre_x) / rng.uniform(8, 12), (y - middle + 8) / rng.uniform(16, 22)) < 1] = lung
    image[(y > SIDE - rng.uniform(26, 32) - 6 * z) & (np.hypot(x - middle, y - middle) < 44)] = rng.uniform(0.4, 0.55)
    for _ in range(5):  # vessels, bright discs that are no ventricle
        place, size = rng.uniform(20, SIDE - 20, 2), rng.uniform(2.5, 5.5)
        image[(np.hypot(x - place[0], y - place[1]) < size) & (label == 0)] = rng.uniform(0.6, 1)
    image[label == 2], image[(label == 1) | (label == 3)] = flesh, blood
    image[left & (np.hypot(u - cavity * 0.5, v - cavity * 0.4) < 2.2)] = flesh  # a papillary muscle, counted as cavity

    smooth = gaussian_filter(rng.standard_normal((2, *label.shape)), (0, 25, 25, 2))
    field, texture = smooth[0] / smooth[0].std(), gaussian_filter(rng.standard_normal(label.shape), (1.2, 1.2, 0))
    image = gaussian_filter(image, (0.8, 0.8, 0)) * np.exp(rng.uniform(0.15, 0.3) * field) + 0.08 * texture
    noise = rng.uniform(0.04, 0.08) * rng.standard_normal((2, *label.shape))
    image = np.hypot(image + noise[0], noise[1]) * rng.uniform(150, 400)
    affine = np.diag([-spacing[0], -spacing[1], spacing[2], 1.0])  # LPS, as scanners store it
    affine[:3, 3] = rng.uniform(-50, 50, 3)
    return image.astype(np.int16), label, affine


def manifest_text(records: list[dict[str, Any]]) -> str:
    """Return the manifest as JSON, a line a record."""
    head = {
        "schema": "medssl.manifest/1",
        "name": "phantoms",
        "version": "1.0",
        "description": "Cardiac MR phantoms, end-diastole (ed) and end-systole (es), made by python -m medssl phantoms",
        "licence": {"id": "Apache-2.0"},
        "access": "open",
        "modality": {"0": "MR"},
        "labels": {"0": "background", "1": "right ventricle", "2": "myocardium", "3": "left ventricle"},
        "slice_axis": "S",
        "spacing": [None, 1.6, 1.6],
        "window": {"zscore": True},
        "expected": {"n_cases": len(records), "axcodes": ["LPS"]},
    }
    lines = [f" {json.dumps(key)}: {json.dumps(value)}," for key, value in head.items()]
    body = ",\n".join(f"  {json.dumps(record)}" for record in records)
    return "\n".join(["{", *lines, ' "training": [', body, " ]", "}", ""])
