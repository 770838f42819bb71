"""The joint elastic deformation of image and regions against MONAI's, sample by sample."""

import torch
import torch.nn.functional as F
from monai.transforms import Rand2DElasticd

from benchmarks.measuring import SEED, Goal, Report, Variant, main, measure
from medssl.transforms import RandJointElasticBatch, RandJointElasticd

OURS, SINGLE = "RandJointElasticBatch", "RandJointElasticd, one by one"
MONAI, FLOOR = "MONAI's Rand2DElasticd, one by one", "two grid_sample alone"
BATCH, SPACING, MAGNITUDE = 8, 32.0, 8.0


def run(quick: bool) -> list[Report]:
    return [
        compare(size, goal, floor) for size, goal, floor in ([(256, 5, 4)] if quick else [(256, 5, 4), (512, 4, 3)])
    ]


def compare(size: int, goal: float, floor: float) -> Report:
    generator = torch.Generator().manual_seed(SEED)
    images = torch.rand(BATCH, 1, size, size, generator=generator)
    regions = torch.randint(100, (BATCH, 1, size, size), generator=generator).int()
    batch, single = (
        RandJointElasticBatch(SPACING, MAGNITUDE),
        RandJointElasticd(["image", "regions"], SPACING, MAGNITUDE, mode=["bilinear", "nearest"]),
    )
    monai = Rand2DElasticd(
        ["image", "regions"], (SPACING, SPACING), (0, MAGNITUDE), prob=1.0, mode=["bilinear", "nearest"]
    )
    samples = [{"image": i, "regions": r} for i, r in zip(images, regions, strict=True)]
    still = F.affine_grid(torch.eye(2, 3).expand(BATCH, -1, -1), list(images.shape), align_corners=False)

    def two_samplings() -> None:
        F.grid_sample(images, still, align_corners=False)
        F.grid_sample(regions.float(), still, "nearest", align_corners=False)

    report = Report(
        f"Elastic deformation of {BATCH} images and their regions, {size}^2",
        MONAI,
        measure(
            {
                MONAI: Variant(lambda: [monai(sample) for sample in samples]),
                SINGLE: Variant(lambda: [single(sample) for sample in samples]),
                FLOOR: Variant(two_samplings),
                OURS: Variant(lambda: batch(images, regions)),
            }
        ),
    )
    report.goals = [
        Goal("times as fast as MONAI's", report.ratio(MONAI, OURS), goal, True),
        Goal("times two grid_sample", report.ratio(OURS, FLOOR), floor, False),
    ]
    return report


if __name__ == "__main__":
    main([run])
