"""The positional loss against a broadcast cosine, as the PCL reference code has it, and against NT-Xent."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.measuring import SEED, Goal, Report, Variant, main, measure
from medssl.losses import GlobalPositionalLoss

OURS, BROADCAST = "GlobalPositionalLoss", "broadcast cosine"
NT_XENT, LIGHTLY = "NT-Xent, one product, cross entropy", "NT-Xent of lightly"
DEPTH, THRESHOLD, TEMPERATURE = 10, 0.1, 0.1


def run(quick: bool) -> list[Report]:
    return [compare(slices, 512) for slices in ([64, 128] if quick else [64, 128, 512])]


def compare(slices: int, width: int) -> Report:
    generator = torch.Generator().manual_seed(SEED)
    embeddings = torch.randn(slices, width, generator=generator, requires_grad=True)
    index = torch.randint(DEPTH, (slices // 2,), generator=generator).repeat(2)
    depth = torch.full_like(index, DEPTH)
    ours = GlobalPositionalLoss(THRESHOLD, TEMPERATURE)
    losses: dict[str, Callable[[], Tensor]] = {
        BROADCAST: lambda: broadcast_cosine(embeddings, index),
        NT_XENT: lambda: nt_xent(embeddings),
        **lightly(embeddings),
        OURS: lambda: ours(embeddings, index, depth),
    }
    report = Report(
        f"Positional loss, 2n = {slices}, D = {width}, V = {DEPTH}, t = {THRESHOLD}",
        BROADCAST,
        measure({name: Variant(backward(loss, embeddings)) for name, loss in losses.items()}),
    )
    goals = {512: (40, 0.01), 128: (15, 0.1)}  # at the small size laxer: launching kernels weighs more
    if slices in goals:
        speed, memory = goals[slices]
        difference = (losses[OURS]() / losses[BROADCAST]() - 1).abs().item()
        report.goals = [
            Goal("times as fast as the broadcast cosine", report.ratio(BROADCAST, OURS), speed, True),
            Goal("its peak, as a part", report.ratio(OURS, BROADCAST, "megabytes"), memory, False),
            Goal("relative difference of the two losses", difference, 1e-6, False),
            Goal("time as a part of lightly's NT-Xent", report.ratio(OURS, LIGHTLY), 1.1, False),
            Goal("time as a part of NT-Xent's at its leanest", report.ratio(OURS, NT_XENT), 1.3, False),
        ]
    return report


def lightly(embeddings: Tensor) -> dict[str, Callable[[], Tensor]]:
    """NT-Xent of the lightly package, where it can be imported: it needs a torchvision that fits this torch."""
    try:
        from lightly.loss import NTXentLoss
    except (ImportError, RuntimeError):
        return {}
    loss = NTXentLoss(TEMPERATURE)
    return {LIGHTLY: lambda: loss(*embeddings.chunk(2))}


def backward(loss: Callable[[], Tensor], embeddings: Tensor) -> Callable[[], object]:
    return lambda: torch.autograd.grad(loss(), embeddings)


def broadcast_cosine(embeddings: Tensor, index: Tensor) -> Tensor:
    """Equation 2, every pair of embeddings side by side in memory; at t = 1/V positives are the slices of one index."""
    itself = torch.eye(len(index), dtype=torch.bool)
    positives = (index[:, None] == index) & ~itself
    cosine = nn.CosineSimilarity(dim=2)(embeddings[:, None], embeddings[None])  # broadcast to (2n, 2n, D)
    e = torch.exp(cosine / TEMPERATURE)
    log_part = torch.log(e / (e * ~itself).sum(dim=1, keepdim=True))
    return -((log_part * positives).sum(dim=1) / positives.sum(dim=1)).mean()


def nt_xent(embeddings: Tensor) -> Tensor:
    """One positive, the other view of the slice: one matrix product and a cross entropy with integer targets."""
    n = len(embeddings)
    z = F.normalize(embeddings, dim=1)
    logits = (z @ z.mT / TEMPERATURE).masked_fill(torch.eye(n, dtype=torch.bool), float("-inf"))
    return F.cross_entropy(logits, torch.arange(n).roll(n // 2))


if __name__ == "__main__":
    main([run])
