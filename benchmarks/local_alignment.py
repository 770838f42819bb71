"""The windowed local alignment against one product per pair of slices, over the plane and over gathered windows."""

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.measuring import SEED, Goal, Report, Variant, main, measure
from medssl.losses import LocalAlignmentLoss
from medssl.losses.global_positional import positional_pairs

OURS, UNGROUPED = "LocalAlignmentLoss, pairs (2, S/2, S/2)", "LocalAlignmentLoss, pairs (S, S)"
PLANE, GATHERED = "pair by pair, whole plane", "pairs gathered, one bmm"
DEPTH, THRESHOLD = 10, Fraction("0.35")
SAMPLE = 8  # pairs that the loop over pairs is timed on


@dataclass
class Setting:
    """Features of two subjects in two views; what is asked for: speed over the plane, speed and memory over the bmm."""

    channels: int
    size: int
    slices: int
    window: int
    goals: tuple[float, float, float] | None = None


QUICK = [Setting(128, 24, 32, 4, (12, 1.5, 1 / 3))]
FULL = [*QUICK, Setting(256, 22, 64, 2, (40, 1.5, 1 / 3)), Setting(256, 22, 64, 3), Setting(256, 22, 64, 4)]


def run(quick: bool) -> list[Report]:
    return [compare(setting) for setting in (QUICK if quick else FULL)]


def compare(setting: Setting) -> Report:
    generator = torch.Generator().manual_seed(SEED)
    features = torch.randn(
        setting.slices, setting.channels, setting.size, setting.size, generator=generator, requires_grad=True
    )
    embedding = nn.Conv2d(setting.channels, setting.channels, 1)
    pairs = draw_pairs(setting.slices // 2, generator)
    all_pairs = torch.block_diag(*pairs).bool()
    first, second = all_pairs.nonzero(as_tuple=True)
    loss = LocalAlignmentLoss(setting.window)
    losses: dict[str, Callable[[], Tensor]] = {
        GATHERED: lambda: gathered(embedding(features), first, second, setting.window),
        UNGROUPED: lambda: loss(embedding(features), all_pairs),
        OURS: lambda: loss(embedding(features), pairs),
    }
    if setting.size % setting.window != 0:
        del losses[GATHERED]  # it would crop, which is another loss
    drawn = torch.randperm(len(first), generator=generator)[:SAMPLE]
    slices = [x.detach()[None].requires_grad_() for x in features]
    sample = [(slices[i], slices[j]) for i, j in zip(first[drawn].tolist(), second[drawn].tolist(), strict=True)]
    touched = [slices[i] for i in {*first[drawn].tolist(), *second[drawn].tolist()}]
    one_by_one = backward(lambda: pair_by_pair(embedding, sample), embedding, touched)
    report = Report(
        f"Local alignment, {setting.channels} x {setting.size}^2, {setting.slices} slices of two subjects, window "
        f"{setting.window}, {len(first):,} pairs; 1x1 embedding included",
        PLANE,
        measure(
            {PLANE: Variant(one_by_one, len(first) / SAMPLE)}
            | {name: Variant(backward(function, embedding, [features])) for name, function in losses.items()}
        ),
    )
    if setting.goals:
        over_plane, over_bmm, memory = setting.goals
        difference = (losses[OURS]() / losses[GATHERED]() - 1).abs().item()
        report.goals = [
            Goal("times as fast as pair by pair", report.ratio(PLANE, OURS), over_plane, True),
            Goal("times as fast as one bmm over gathered pairs", report.ratio(GATHERED, OURS), over_bmm, True),
            Goal("its peak, as a part", report.ratio(OURS, GATHERED, "megabytes"), memory, False),
            Goal("relative difference of the two losses", difference, 1e-6, False),
        ]
    return report


def draw_pairs(slices: int, generator: torch.Generator) -> Tensor:
    """Half as many slices of each of two subjects, drawn with replacement, two views of each: the pairs of SAL."""
    index = torch.randint(DEPTH, (2, slices // 2), generator=generator).repeat(1, 2)  # (2, slices)
    depth = torch.full((slices,), DEPTH)
    return torch.stack([positional_pairs(i, depth, THRESHOLD).fill_diagonal_(False) for i in index])


def backward(loss: Callable[[], Tensor], embedding: nn.Module, features: list[Tensor]) -> Callable[[], object]:
    return lambda: torch.autograd.grad(loss(), [*features, *embedding.parameters()])


def pair_by_pair(embedding: nn.Module, pairs: list[tuple[Tensor, Tensor]]) -> Tensor:
    """Equation 1 as it is printed: embed, normalise and compare two slices ``(1, C, H, W)``, then the next two."""
    losses = []
    for slices in pairs:
        x_i, x_j = (F.normalize(embedding(x).flatten(2)[0], dim=0) for x in slices)  # (C, hw)
        losses.append((1 - (x_i.mT @ x_j).amax(dim=1)).mean())
    return torch.stack(losses).mean()


def gathered(x: Tensor, first: Tensor, second: Tensor, side: int) -> Tensor:
    """Equation 1 of all pairs: the windows of both slices side by side, one small product per pair and window."""
    x = F.normalize(x, dim=1).unfold(2, side, side).unfold(3, side, side)  # (S, C, windows, windows, side, side)
    x = x.flatten(4).permute(0, 2, 3, 4, 1).flatten(1, 2)  # (S, W, K, C)
    gram = x[first].flatten(0, 1) @ x[second].flatten(0, 1).mT  # (pairs W, K, K)
    return (1 - gram.amax(dim=2)).mean()


if __name__ == "__main__":
    main([run])
