"""Measure computations beside each other: CPU time, peak memory, kernels; print and keep the outcome."""

import argparse
import ctypes
import gc
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import monai
import torch

from benchmarks.counting import count_kernels

SEED = 0
CLEAR = Path("/proc/self/clear_refs")
# glibc's malloc: M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD, M_MMAP_MAX
KEEP = {-1: -1, -2: 2**26, -3: 2**17, -4: 0}  # freed memory stays, as in the allocator of a GPU
RETURN = {-1: 2**17, -2: 2**17, -3: 2**17, -4: 2**16}  # freed memory goes back to the system at once


@dataclass
class Variant:
    """One way to compute something.

    Args:
        run: does it, forward and backward.
        times: the whole is this many times what ``run`` does; for loops that would take minutes.
    """

    run: Callable[[], object]
    times: float = 1.0


@dataclass
class Measurement:
    """What one variant took; None where it was not measured."""

    milliseconds: float
    spread: float  # between the quartiles, in milliseconds
    megabytes: float | None
    kernels: int
    sampled: bool


@dataclass
class Goal:
    """A ratio and the limit it should keep."""

    name: str
    value: float | None
    limit: float
    at_least: bool

    def outcome(self) -> str:
        """Return pass, miss, or n/a where the ratio could not be measured."""
        if self.value is None:
            return "n/a"
        return "pass" if (self.value >= self.limit if self.at_least else self.value <= self.limit) else "**miss**"


@dataclass
class Report:
    """The variants of one setting, measured in one run, and the goals they are held to."""

    title: str
    baseline: str
    measurements: dict[str, Measurement]
    goals: list[Goal] = field(default_factory=list)

    def ratio(self, above: str, below: str, what: str = "milliseconds") -> float | None:
        """Return how many times as much the first of two variants takes; None where one was not measured."""
        first, second = (getattr(self.measurements.get(name), what, None) for name in (above, below))
        return first / second if first is not None and second else None

    def markdown(self) -> str:
        """Return the measurements and the goals as tables."""
        lines = [
            f"### {self.title}",
            "",
            "| | CPU ms | quartiles | baseline / this | peak MB | kernels |",
            "|---|---|---|---|---|---|",
        ]
        for name, m in self.measurements.items():
            about = "~" if m.sampled else ""
            peak = "n/a" if m.megabytes is None else f"{m.megabytes:,.0f}"
            ratio = self.ratio(self.baseline, name)
            lines.append(
                f"| {name} | {about}{m.milliseconds:,.1f} | {about}{m.spread:,.1f} | {ratio:,.2f} | {peak} | "
                f"{about}{m.kernels:,} |"
            )
        lines += ["", "| goal | measured | limit | |", "|---|---|---|---|"] if self.goals else []
        for goal in self.goals:
            value = "n/a" if goal.value is None else f"{goal.value:.3g}"
            sign = "≥" if goal.at_least else "≤"
            lines.append(f"| {goal.name} | {value} | {sign} {goal.limit:.3g} | {goal.outcome()} |")
        return "\n".join([*lines, ""])


def measure(variants: dict[str, Variant], repeats: int = 5) -> dict[str, Measurement]:
    """Take kernels and peak of every variant, then CPU times, interleaved: once to warm up, ``repeats`` to count."""
    torch.set_num_threads(1)
    kernels = {name: count_kernels(v.run) for name, v in variants.items()}
    peaks = {name: peak_megabytes(v.run) if v.times == 1 else None for name, v in variants.items()}
    allocate(KEEP)
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(1 + repeats):
        for name, variant in variants.items():
            start = time.process_time()
            variant.run()
            seconds[name].append((time.process_time() - start) * variant.times)
    allocate(RETURN)
    measurements = {}
    for name, variant in variants.items():
        low, middle, high = statistics.quantiles(seconds[name][1:], n=4, method="inclusive")
        measurements[name] = Measurement(
            1000 * middle, 1000 * (high - low), peaks[name], round(kernels[name] * variant.times), variant.times != 1
        )
    return measurements


def allocate(settings: dict[int, int]) -> None:
    """Tell glibc what to do with freed memory, and hand back what is free now; elsewhere do nothing."""
    gc.collect()
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        for parameter, value in settings.items():
            libc.mallopt(parameter, value)
        libc.malloc_trim(0)


def peak_megabytes(run: Callable[[], object]) -> float | None:
    """Return how far the resident memory rises above where it was; None where Linux does not tell."""
    if not os.access(CLEAR, os.W_OK):
        return None
    allocate(RETURN)
    CLEAR.write_text("5")  # the high-water mark starts anew
    before = resident("VmRSS")
    run()
    return (resident("VmHWM") - before) / 1024


def resident(entry: str) -> int:
    """Return an entry of this process's status in kB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(entry))


def surroundings() -> dict[str, str | int]:
    """Return what a number needs to be understood later: machine, versions, commit, seed, command."""
    git = subprocess.run(["git", "describe", "--always", "--dirty", "--abbrev=12"], capture_output=True, text=True)
    cpu = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    names = [line.split(":")[1].strip() for line in cpu.splitlines() if line.startswith("model name")]
    return {
        "command": " ".join(["python -m", *(sys.orig_argv[2:] if "-m" in sys.orig_argv else sys.argv)]),
        "processor": names[0] if names else platform.processor(),
        "cores": os.cpu_count() or 0,
        "threads": 1,
        "system": platform.platform(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "monai": monai.__version__,
        "commit": git.stdout.strip() or "n/a",
        "seed": SEED,
    }


def main(benchmarks: Sequence[Callable[[bool], list[Report]]], output: str | None = None) -> None:
    """Run benchmarks from the command line: print their tables, keep them as JSON and markdown if told where."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="small sizes, half a minute")
    parser.add_argument("--output", default=output, help="folder for <quick or full>.json and .md")
    options = parser.parse_args()
    conditions = surroundings()
    text = "\n".join(f"- {key}: {value}" for key, value in conditions.items()) + "\n"
    print(text)
    reports = []
    for benchmark in benchmarks:
        for report in benchmark(options.quick):
            print(report.markdown(), flush=True)
            reports.append(report)
    if options.output:
        folder = Path(options.output)
        folder.mkdir(parents=True, exist_ok=True)
        name = "quick" if options.quick else "full"
        (folder / f"{name}.md").write_text("\n".join([text, *(report.markdown() for report in reports)]))
        kept = {**conditions, "reports": [asdict(report) for report in reports]}
        (folder / f"{name}.json").write_text(json.dumps(kept, indent=2) + "\n")
