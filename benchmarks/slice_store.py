"""Slices from a store against slices from compressed volumes: one read, a batch, and what a step waits for."""

import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from monai.data import DataLoader
from monai.transforms import Rand2DElasticd, RandSpatialCropd
from scipy.ndimage import gaussian_filter

from benchmarks.measuring import SEED, Goal, Report, Variant, main, measure
from medssl.data import StoredSlices, VolumeSampler, prepare, store_recipe
from medssl.data.slice_store import store_transform, stored, unpack
from medssl.transforms import RandJointElasticBatch, Superpixels, Superpixelsd

WHOLE, MAPPED = "LoadImaged of the .nii.gz, one slice of it", "StoredSlices"
REGIONS = "its regions alone"
PREPARED = "super-pixels of a slice, once"
STOCK = "stock: .nii.gz, super-pixels and Rand2DElasticd a sample"
PER_SAMPLE, OURS = "StoredSlices, Rand2DElasticd a sample", "StoredSlices, RandJointElasticBatch"
READING = "StoredSlices alone"
SLICES, STEP = 16, 0.05  # a batch; seconds a step of the device takes
SPACING, MAGNITUDE = 32.0, 8.0
WINDOW = {"hu": [-160, 240]}
SUPERPIXELS = {"scale": 100.0, "sigma": 0.8, "min_size": 50}


@dataclass
class Setting:
    """A volume, the side of what is cropped from its slices, and how much faster a store should be."""

    depth: int
    size: int
    crop: int
    read: float
    loader: float  # times the stock loader


def run(quick: bool) -> list[Report]:
    setting = Setting(24, 256, 128, 30, 30) if quick else Setting(96, 512, 256, 200, 150)
    with tempfile.TemporaryDirectory() as folder:
        record = write_volume(setting, Path(folder))
        recipe = store_recipe([None, None, None], "S", WINDOW, SUPERPIXELS)
        prepare([record], Path(folder) / "store", recipe, ThreadPoolExecutor(1))
        plain = store_recipe([None, None, None], "S", WINDOW)
        crop = RandSpatialCropd(["image", "regions"], [setting.crop, setting.crop])
        store = StoredSlices([record], Path(folder) / "store", recipe, transform=crop)
        return [reading(setting, record, store, plain), loading(setting, record, store, plain, crop)]


def reading(setting: Setting, record: dict[str, Any], store: StoredSlices, plain: dict[str, Any]) -> Report:
    """One random slice."""
    random = np.random.RandomState(SEED)
    facts = store.facts[0]
    file = stored(record, store.folder).with_suffix(".regions")
    begin, length = sum(facts["regions"][:5]), facts["regions"][5]
    blob = file.read_bytes()[begin : begin + length]
    load, superpixels = store_transform(plain), Superpixels(**SUPERPIXELS)
    pixels = store.read(0, 5)["image"]

    def whole() -> torch.Tensor:
        return load({"image": record["image"]})["image"][:, random.randint(setting.depth)]

    report = Report(
        f"One slice of a volume of {setting.depth} x {setting.size}^2, and its regions",
        WHOLE,
        measure(
            {
                WHOLE: Variant(whole),
                REGIONS: Variant(lambda: unpack(blob, (setting.size, setting.size))),
                MAPPED: Variant(lambda: store.read(0, random.randint(setting.depth))),
                PREPARED: Variant(lambda: superpixels(pixels)),
            }
        ),
    )
    peak = report.measurements[MAPPED].megabytes
    report.goals = [
        Goal("times as fast as the volume", report.ratio(WHOLE, MAPPED), setting.read, True),
        Goal("MB of a read", peak, 8, False),
        Goal("ms to unpack regions", report.measurements[REGIONS].milliseconds, 1.5, False),
        Goal("kB of regions a slice", float(np.mean(facts["regions"])) / 1000, 16, False),
    ]
    return report


def loading(
    setting: Setting, record: dict[str, Any], store: StoredSlices, plain: dict[str, Any], crop: RandSpatialCropd
) -> Report:
    """A batch of slices, their regions and the deformed positives of both."""
    elastic = RandJointElasticBatch(SPACING, MAGNITUDE)
    keys = ["image", "regions"]
    monai = Rand2DElasticd(keys, (SPACING, SPACING), (0, MAGNITUDE), prob=1.0, mode=["bilinear", "nearest"])
    load, superpixels = store_transform(plain), Superpixelsd("regions", "regions", **SUPERPIXELS)
    random = np.random.RandomState(SEED)

    def stock() -> None:
        volume = load({"image": record["image"]})["image"]
        image = volume[:, random.randint(setting.depth)]
        regions = superpixels({"regions": image[:, None]})["regions"][:, 0]
        sample = crop({"image": image, "regions": regions})
        monai(sample)

    sampler = VolumeSampler(1, SLICES, SEED)
    batches = DataLoader(store, batch_size=SLICES, sampler=sampler, num_workers=0)

    def ours() -> None:
        for batch in batches:
            elastic(batch["image"], batch["regions"])

    def per_sample() -> None:
        for draw in sampler:
            monai(store[draw][0])

    report = Report(
        f"A batch of {SLICES} slices {setting.crop}^2 with regions and elastic positives, volume of {setting.depth} x "
        f"{setting.size}^2",
        STOCK,
        measure(
            {
                STOCK: Variant(stock, times=SLICES),
                PER_SAMPLE: Variant(per_sample),
                READING: Variant(lambda: list(batches)),
                OURS: Variant(ours),
            }
        ),
    )
    report.goals = [
        Goal("times as fast as the stock loader", report.ratio(STOCK, OURS), setting.loader, True),
        Goal("times as fast as the store with MONAI's elastic", report.ratio(PER_SAMPLE, OURS), 2.5, True),
        Goal("ms of a worker a step", report.measurements[READING].milliseconds, 40, False),
        Goal(
            f"% of the time waited for one worker, steps of {1000 * STEP:.0f} ms", 100 * share_waited(store), 5, False
        ),
    ]
    return report


def share_waited(store: StoredSlices, steps: int = 40) -> float:
    """Return the share of wall time that steps of a device wait for one worker, the first step aside."""
    batches = iter(
        DataLoader(store, batch_size=SLICES, sampler=VolumeSampler(1, SLICES * (steps + 1), SEED), num_workers=1)
    )
    next(batches)
    waited, begin = 0.0, time.perf_counter()
    for _ in range(steps):
        time.sleep(STEP)
        asked = time.perf_counter()
        next(batches)
        waited += time.perf_counter() - asked
    return waited / (time.perf_counter() - begin)


def write_volume(setting: Setting, folder: Path) -> dict[str, Any]:
    """Write a phantom of soft tissue, bone and air, int16, and return its record."""
    random = np.random.default_rng(SEED)
    shape = (setting.size, setting.size, setting.depth)
    texture = gaussian_filter(random.standard_normal(shape, dtype=np.float32), (setting.size / 40,) * 2 + (2,))
    tissue = 40 + 600 * texture + 12 * random.standard_normal(shape, dtype=np.float32)
    line = np.linspace(-1, 1, setting.size)
    body = (line[:, None] ** 2 + (1.3 * line) ** 2 < 0.8)[..., None]
    file = folder / "phantom.nii.gz"
    nib.save(nib.Nifti1Image(np.where(body, tissue, -1000).astype(np.int16), np.eye(4)), file)
    return {"image": str(file), "case_id": "phantom"}


if __name__ == "__main__":
    main([run])
