"""The contrast of regions against a loop over them, and against what no implementation can leave out."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.measuring import SEED, Goal, Report, Variant, main, measure
from medssl.losses import LocalRegionContrastLoss

OURS, PLANAR = "LocalRegionContrastLoss, channels last", "LocalRegionContrastLoss, channels first"
WHOLE, LOOP, FLOOR = "the same, whole regions", "loop over the regions", "gather, products and dense gradients alone"
CHANNELS, DRAWS, TEMPERATURE = 64, 50, 0.5


@dataclass
class Setting:
    """Images of a size with up to so many regions; what is asked for: times as fast as the loop."""

    images: int
    size: int
    regions: int
    goal: float
    floor: tuple[float, float]  # times the floor, channels last and first


QUICK = [Setting(2, 128, 60, 25, (4, 10))]
FULL = [*QUICK, Setting(4, 256, 100, 150, (2.5, 6))]


def run(quick: bool) -> list[Report]:
    return [compare(setting) for setting in (QUICK if quick else FULL)]


def compare(setting: Setting) -> Report:
    generator = torch.Generator().manual_seed(SEED)
    shape = (setting.images, CHANNELS, setting.size, setting.size)
    query, positive = (torch.randn(shape, generator=generator) for _ in range(2))
    regions = voronoi(setting, generator)
    moved = regions.roll((7, -5), dims=(2, 3))
    maps = {
        layout: [x.contiguous(memory_format=layout).requires_grad_() for x in (query, positive)]
        for layout in (torch.channels_last, torch.contiguous_format)
    }
    last, first = maps[torch.channels_last], maps[torch.contiguous_format]

    def contrast(views: list[Tensor], num_samples: int | None = DRAWS) -> Callable[[], Tensor]:
        loss = LocalRegionContrastLoss(num_samples, TEMPERATURE)
        return lambda: loss(views[0], regions, views[1], moved, num_regions=setting.regions)

    points = torch.randint(
        setting.images * setting.size**2, (setting.images * setting.regions * DRAWS,), generator=generator
    )
    report = Report(
        f"Contrast of regions, {setting.images} x {CHANNELS} x {setting.size}^2, up to {setting.regions} regions, "
        f"{DRAWS} draws",
        LOOP,
        measure(
            {
                LOOP: Variant(backward(lambda: loop(first[0], regions, first[1], moved), first)),
                WHOLE: Variant(backward(contrast(last, None), last)),
                PLANAR: Variant(backward(contrast(first), first)),
                FLOOR: Variant(lambda: floor(last, points, setting)),
                OURS: Variant(backward(contrast(last), last)),
            }
        ),
    )
    measured = report.measurements[OURS].megabytes
    gradients = 2 * query.numel() * query.element_size() / 2**20
    report.goals = [
        Goal("times as fast as the loop", report.ratio(LOOP, OURS), setting.goal, True),
        Goal("times the floor, channels last", report.ratio(OURS, FLOOR), setting.floor[0], False),
        Goal("times the floor, channels first", report.ratio(PLANAR, FLOOR), setting.floor[1], False),
        Goal("peak over the two gradients", None if measured is None else measured / gradients, 1.35, False),
        Goal("kernels", float(report.measurements[OURS].kernels), 120, False),
    ]
    return report


def voronoi(setting: Setting, generator: torch.Generator) -> Tensor:
    """Regions nearest to random seeds: all of them in the first image, half of them or more in the others."""
    line = torch.arange(setting.size)
    pixels = torch.cartesian_prod(line, line).float()
    maps = []
    for image in range(setting.images):
        low = setting.regions if image == 0 else setting.regions // 2
        count = int(torch.randint(low, setting.regions + 1, (1,), generator=generator))
        seeds = torch.rand(count, 2, generator=generator) * setting.size
        maps.append(torch.cdist(pixels, seeds).argmin(dim=1).view(1, setting.size, setting.size))
    return torch.stack(maps).int()


def backward(loss: Callable[[], Tensor], views: list[Tensor]) -> Callable[[], object]:
    return lambda: torch.autograd.grad(loss(), views)


def loop(query: Tensor, query_regions: Tensor, positive: Tensor, positive_regions: Tensor) -> Tensor:
    """The double sum of the LRC paper, one region after the other."""
    total = query.new_zeros(())
    for q, q_map, p, p_map in zip(query, query_regions[:, 0], positive, positive_regions[:, 0], strict=True):
        means = []
        for features, regions in ((q, q_map), (p, p_map)):
            drawn = []
            for region in range(int(regions.max()) + 1):
                places = (regions == region).nonzero()
                rows = places[torch.randint(len(places), (DRAWS,))]
                drawn.append(features[:, rows[:, 0], rows[:, 1]].mean(dim=1))
            means.append(F.normalize(torch.stack(drawn), dim=1))
        a, b = means
        for k in range(len(a)):
            logits = torch.cat([b, a]) @ a[k] / TEMPERATURE
            total = total - torch.log_softmax(logits, dim=0)[k]
    return total / len(query)


def floor(views: list[Tensor], points: Tensor, setting: Setting) -> list[Tensor]:
    """Read the drawn vectors, form the products of their means three times, write them into two dense gradients."""
    gradients = []
    for view in views:
        rows = view.detach().movedim(1, -1).flatten(0, -2)
        vectors = rows.index_select(0, points)
        means = vectors.view(setting.images, setting.regions, DRAWS, CHANNELS).mean(dim=2)
        for _ in range(3):  # forward, and the gradient of either side
            torch.bmm(means, torch.cat([means, means], dim=1).mT)
        gradients.append(torch.zeros_like(rows).index_add_(0, points, vectors))
    return gradients


if __name__ == "__main__":
    main([run])
