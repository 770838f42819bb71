"""A step of pre-training: what is not the network's, kernels, the moving average, and what one override changes."""

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.counting import count_kernels
from benchmarks.measuring import SEED, Goal, Report, Variant, main, measure
from medssl.engine import bfloat16_is_fast
from medssl.methods import MoCo
from medssl.networks import Momentum, ResNetEncoder, mlp_head
from medssl.transforms import RandJointElasticBatch

LOOP, FUSED, FLOOR = "a loop over the parameters", "Momentum.follow", "the same number of weights in one tensor"
ALONE, WHOLE = "the network and its optimizer alone", "MoCo v2's step"
LAST, FIRST, COMPILED, HALF = "channels last", "channels first", "torch.compile", "bfloat16"
BATCH = 8


def run(quick: bool) -> list[Report]:
    size = 64 if quick else 224
    return [moving_average(), step(size, quick), overrides(size, quick)]


def moving_average() -> Report:
    """A ResNet-50's twin follows it."""
    network = ResNetEncoder()
    twin = Momentum(network)

    @torch.no_grad()
    def loop() -> None:
        for slow, fast in zip(twin.twin.parameters(), network.parameters(), strict=True):
            slow.mul_(0.999).add_(fast, alpha=0.001)

    slow, fast = (nn.utils.parameters_to_vector(module.parameters()).detach() for module in (twin.twin, network))
    variants = {
        LOOP: Variant(loop),
        FUSED: Variant(lambda: twin.follow(network)),
        FLOOR: Variant(lambda: slow.lerp_(fast, 0.001)),  # two reads and a write
    }
    report = Report("The moving average of a ResNet-50", LOOP, measure(variants))
    report.goals = [
        Goal("times as fast as the loop", report.ratio(LOOP, FUSED), 2, True),
        Goal("times the floor", report.ratio(FUSED, FLOOR), 1.1, False),
    ]
    return report


def make(embed_dim: int = 128) -> MoCo:
    """MoCo v2 on the ResNet-50 of the papers, a queue of 65,536 keys."""
    torch.manual_seed(SEED)
    encoder = ResNetEncoder()
    method = MoCo(encoder, mlp_head(encoder.out_channels[-1], embed_dim), temperature=0.2, embed_dim=embed_dim)
    return method.to(memory_format=torch.channels_last)


def optimizer_of(method: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(method.parameters(), lr=0.03, momentum=0.9, weight_decay=1e-4)


def slices(size: int, count: int = BATCH) -> torch.Tensor:
    generator = torch.Generator().manual_seed(SEED)
    return torch.rand(count, 1, size, size, generator=generator)


def step(size: int, quick: bool) -> Report:
    """Views, momentum, queue and loss beside two passes of the network, backward and optimizer."""
    method = make()
    optimizer, images = optimizer_of(method), slices(size)
    elastic = RandJointElasticBatch(size / 10, size / 50)

    def whole(images: torch.Tensor = images) -> None:
        optimizer.zero_grad()
        method({"view_1": images, "view_2": elastic(images, None)[0]})["loss"].backward()
        optimizer.step()

    def alone() -> None:
        optimizer.zero_grad()
        with torch.no_grad():
            method.key_encoder.twin(images)
        method.head(method.encoder(images)[-1].mean(dim=(2, 3))).sum().backward()
        optimizer.step()

    repeats = 5 if quick else 9
    report = Report(
        f"A step of MoCo v2, ResNet-50, {BATCH} slices of {size}^2, 65,536 keys",
        ALONE,
        measure({ALONE: Variant(alone), WHOLE: Variant(whole)}, repeats),
    )
    share = report.ratio(WHOLE, ALONE)
    with FlopCounterMode(display=False) as counter:
        ResNetEncoder().to("meta")(torch.empty(1, 1, 224, 224, device="meta"))
    twice = slices(size, 2 * BATCH)
    report.goals = [
        Goal("% that the step adds", None if share is None else 100 * (share - 1), 3, False),
        Goal(
            "kernels of twice the batch, as a part",
            count_kernels(lambda: whole(twice)) / report.measurements[WHOLE].kernels,
            1,
            False,
        ),
        Goal("GFLOP of the encoder, one slice of 224^2", counter.get_total_flops() / 1e9, 8.1, False),
    ]
    return report


def overrides(size: int, quick: bool) -> Report:
    """``--memory_format``, ``--compile``, ``--autocast``, one at a time against the default, channels last."""
    images = slices(size)
    first, last = make().to(memory_format=torch.contiguous_format), make()
    compiled = make()
    compiled.encoder.compile()

    def step_of(model: nn.Module, half: bool = False) -> None:
        model.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            loss = model({"view_1": images, "view_2": images})["loss"]
        loss.backward()

    variants = {LAST: Variant(lambda: step_of(last)), FIRST: Variant(lambda: step_of(first))}
    step_of(compiled)  # compiles
    variants[COMPILED] = Variant(lambda: step_of(compiled))
    if bfloat16_is_fast(torch.device("cpu")):  # many times slower elsewhere
        variants[HALF] = Variant(lambda: step_of(last, half=True))
    return Report(
        f"Forward and backward of MoCo v2, ResNet-50, {BATCH} slices of {size}^2, by override",
        LAST,
        measure(variants, 3 if quick else 5),
    )


if __name__ == "__main__":
    main([run])
