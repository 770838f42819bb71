"""Scans compared and chosen: the slices of one embedded, and the next of a thousand."""

import tempfile
from pathlib import Path

import numpy as np
import torch

from benchmarks.measuring import SEED, Goal, Report, Variant, main, measure
from medssl.label.project import Project
from medssl.label.scan_embeddings import embed_slices
from medssl.networks import ResNetEncoder, UNetEncoder

ONE = "slice by slice, channels first"
NETWORKS = {"small.yaml's U-Net": lambda: UNetEncoder(width=16), "ResNet-50": ResNetEncoder, "U-Net": UNetEncoder}
NEXT, WHOLE = "next_scan", "the order of all"
SLICES, SCANS = 64, 1000


def run(quick: bool) -> list[Report]:
    size, slices = (64, 8) if quick else (224, SLICES)
    return [*(embedding(name, size, slices) for name in NETWORKS), choosing(100 if quick else SCANS)]


def embedding(name: str, size: int, slices: int) -> Report:
    """The slices of a scan through an encoder."""
    torch.manual_seed(SEED)
    scan = torch.randn(slices, 1, size, size)
    encoder = NETWORKS[name]().eval()

    @torch.no_grad()
    def one_by_one() -> None:
        for image in scan.split(1):
            encoder(image)

    variants = {ONE: Variant(one_by_one), "embed_slices": Variant(lambda: embed_slices(encoder, scan))}
    report = Report(f"{slices} slices of {size}² through {name}", ONE, measure(variants))
    taken = report.measurements["embed_slices"].milliseconds / 1000
    report.goals = [Goal("CPU seconds", taken if slices == SLICES else None, 10, False)]
    return report


def choosing(scans: int) -> Report:
    """The next of many scans that were embedded before, ten of them annotated."""
    rng = np.random.default_rng(SEED)
    cases = [f"scan{number:04d}" for number in range(scans)]
    with tempfile.TemporaryDirectory() as folder:
        project = Project(folder, ["organ"])
        project.state.mkdir()
        embeddings = rng.normal(size=(scans, 4 * 256)) + 3
        embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
        np.savez(project.state / "embeddings.npz", cases=np.array(cases), images=np.array(cases), embeddings=embeddings)
        for case in cases:
            write_features(project.state / "features", case, rng)
        variants = {
            WHOLE: Variant(lambda: list(project.next_scans(cases[:10]))),
            NEXT: Variant(lambda: next(project.next_scans(cases[:10]))),
        }
        report = Report(f"The next of {scans} scans", WHOLE, measure(variants))
    taken = report.measurements[NEXT].milliseconds
    report.goals = [Goal("CPU milliseconds", taken if scans == SCANS else None, 100, False)]
    return report


def write_features(folder: Path, case: str, rng: np.random.Generator) -> None:
    """Write what an encoder made of the slices of a scan."""
    folder.mkdir(exist_ok=True)
    features = rng.normal(size=(64, 256)).astype(np.float32)
    np.savez(folder / f"{case}.npz", stamp=np.array(""), features=features, numbers=np.arange(64))


if __name__ == "__main__":
    main([run])
