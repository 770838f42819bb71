"""The annotation of a data set replayed: what each way of choosing scans would have bought."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from monai.transforms import Compose, ResizeWithPadOrCropd
from tqdm.auto import tqdm

from medssl.benchmark.tables import bootstrap_interval
from medssl.data import Manifest
from medssl.data.splits import fold_subjects, with_duplicates
from medssl.engine import trained_network
from medssl.engine.overlays import COLOURS, save_figure
from medssl.label.facility_location import Array, facility_location, outliers
from medssl.label.scan_embeddings import SliceFeatures, embed_slices, file_slices, scan_embeddings
from medssl.label.suggestions import uncertainty_weight
from medssl.label.uncertainty import organ_uncertainty
from medssl.label.voxel_classifier import Moments, VoxelClassifier, VoxelSample, sample_voxels, sampled_dice
from medssl.transforms import KnownLabelsd, LoadScand, ResampleToSpacingd, SameGridd, Windowd

RANDOM = "random"


@dataclass(frozen=True)
class LabelledScan:
    """A scan as the replay needs it."""

    case_id: str
    subject_id: str
    slices: SliceFeatures
    voxels: VoxelSample
    moments: Moments


def read_labelled(manifest: Manifest, checkpoint: str | Path, num_voxels: int = 4096) -> list[LabelledScan]:
    """Embed the labelled scans of a data set, and draw voxels of each.

    Args:
        manifest: of the data set.
        checkpoint: of the pretrain bundle, of slices.
        num_voxels: of each scan.

    Raises:
        FileNotFoundError: if there are no weights or no receipt beside them.
        ValueError: if they are of another network than a U-Net of slices, or no scan has a label.
    """
    network, receipt = trained_network(checkpoint)
    keys = ["image", "label"]
    load = Compose(
        [
            LoadScand(keys),
            SameGridd(keys),
            KnownLabelsd("label", manifest.labels, manifest.label_policy),
            ResampleToSpacingd(keys, receipt["spacing"], receipt["slice_axis"], ["bilinear", "nearest"]),
            Windowd("image", **receipt["window"]),
        ]
    )
    fit = ResizeWithPadOrCropd(keys, [-1, *receipt["image_size"]])
    records = [record for record in manifest.training if "label" in record]
    if not records:
        raise ValueError(f"{manifest.name} has no labelled scan in its training section to replay its annotation with.")
    found = []
    for seed, record in enumerate(tqdm(records, desc="reading", unit="scan")):
        data = load(dict(record))
        numbers = file_slices(data["image"], receipt["slice_axis"])
        data = fit(data)
        slices = torch.as_tensor(data["image"]).movedim(1, 0)
        labels = torch.as_tensor(data["label"])[0].long()
        voxels = sample_voxels(network.encoder, slices, labels, manifest.num_classes, num_voxels, seed)
        features = SliceFeatures(embed_slices(network.encoder, slices), numbers)
        found.append(LabelledScan(record["case_id"], record["subject_id"], features, voxels, Moments(voxels)))
    return found


def simulate(
    manifest: Manifest, scans: Sequence[LabelledScan], num_labels: int = 10, num_orders: int = 20, seed: int = 0
) -> pd.DataFrame:
    """Annotate the training subjects of every fold scan by scan in several orders, and test after each scan.

    The orders are ``first_scans``, facility location on the embeddings; ``next_scan``, which weighs in what the model
    of the moment is unsure of; and random ones. In all of them no subject has a second scan before every subject has
    one. The model is linear, on frozen features: see :py:class:`medssl.label.VoxelClassifier`.

    Args:
        manifest: of the data set, for its folds.
        scans: from :py:func:`read_labelled`.
        num_labels: how many scans are annotated.
        num_orders: random orders.
        seed: of these.

    Returns:
        A row per ``strategy``, ``order``, ``fold``, number of ``labels`` and test case: its ``dice``, the mean over
        the organs that it holds, and the scan ``annotated`` last.
    """
    rows: list[dict[str, Any]] = []
    for fold, subjects in tqdm(sorted(fold_subjects(manifest).items()), desc="replaying", unit="fold"):
        barred = with_duplicates(subjects, manifest.duplicates)
        pool = [scan for scan in scans if scan.subject_id not in barred]
        tested = [scan for scan in scans if scan.subject_id in subjects]
        rng = np.random.default_rng((seed, fold))
        orders = {("first_scans", 0): first_scans(pool), ("next_scan", 0): next_scan(pool)}
        orders |= {(RANDOM, order): random_scans(pool, rng) for order in range(num_orders)}
        for (strategy, order), places in orders.items():
            chosen: list[Moments] = []
            for place in islice(places, num_labels):
                chosen.append(pool[place].moments)
                facts = {"strategy": strategy, "order": order, "fold": fold, "labels": len(chosen)}
                facts["annotated"] = pool[place].case_id
                model = VoxelClassifier(chosen)
                for scan in tested:
                    case = {"case_id": scan.case_id, "subject_id": scan.subject_id}
                    rows.append({**facts, **case, "dice": mean_dice(model, scan)})
    return pd.DataFrame(rows)


def mean_dice(model: VoxelClassifier, scan: LabelledScan) -> float:
    """Return the mean Dice over the organs that a scan holds."""
    dice = sampled_dice(model.probabilities(scan.voxels.features).argmax(dim=1), scan.voxels)
    return float(dice[1:].nanmean())


def first_scans(pool: Sequence[LabelledScan]) -> Iterator[int]:
    """Yield the places of scans by coverage alone."""
    similarity, last = similarity_and_outliers(pool)
    for place, _ in facility_location(similarity, [scan.subject_id for scan in pool], last=last):
        yield place


def next_scan(pool: Sequence[LabelledScan]) -> Iterator[int]:
    """Yield the places of scans by coverage and by what the model of those before is unsure of."""
    similarity, last = similarity_and_outliers(pool)
    subjects, chosen = [scan.subject_id for scan in pool], list[int]()
    while len(chosen) < len(pool):
        unsure, weight = None, uncertainty_weight(len(chosen))
        if chosen:
            model = VoxelClassifier([pool[place].moments for place in chosen])
            unsure = np.array([uncertainty(model, scan) for scan in pool])
        place, _ = next(facility_location(similarity, subjects, chosen, last, unsure, weight))
        yield place
        chosen.append(place)


def uncertainty(model: VoxelClassifier, scan: LabelledScan) -> float:
    """Return how unsure a model is of the organs in a scan."""
    probabilities = model.probabilities(scan.voxels.features).T  # (K, S)
    return organ_uncertainty(probabilities, stands_for=scan.voxels.stands_for)


def random_scans(pool: Sequence[LabelledScan], rng: np.random.Generator) -> Iterator[int]:
    """Yield the places of scans by chance, each subject once before any comes again."""
    taken, shuffled = Counter[str](), rng.permutation(len(pool)).tolist()
    rounds = []
    for place in shuffled:
        rounds.append(taken[pool[place].subject_id])
        taken[pool[place].subject_id] += 1
    yield from (shuffled[number] for number in np.argsort(rounds, kind="stable"))


def similarity_and_outliers(pool: Sequence[LabelledScan]) -> tuple[Array, list[int]]:
    """Return the cosines of all scans with each other, and the places of outliers."""
    embeddings = scan_embeddings([scan.slices for scan in pool])
    similarity = embeddings @ embeddings.T
    return similarity, outliers(similarity)


def compare_orders(results: pd.DataFrame, seed: int = 0) -> pd.DataFrame:
    """Table a replay: each strategy beside the random orders.

    Returns:
        A row per number of labels and strategy: its mean ``dice``; ``random``, the mean over the random orders, and
        their ``lower`` and ``upper`` quartile; the ``difference`` to the mean on the same cases and its 95 % interval
        ``low`` to ``high``, a bootstrap over subjects; and ``labels_saved``, how many more scans random orders need on
        average for the same Dice, NaN where they do not come to it or were beyond it with the first number.
    """
    by_chance = results[results["strategy"] == RANDOM]
    rng, rows = np.random.default_rng(seed), []
    curve = by_chance.groupby("labels")["dice"].mean()
    spread = by_chance.groupby(["labels", "order"])["dice"].mean().groupby("labels")
    lower, upper = spread.quantile(0.25), spread.quantile(0.75)
    expected = by_chance.groupby(["labels", "subject_id", "case_id"])["dice"].mean()
    for strategy in [name for name in dict.fromkeys(results["strategy"]) if name != RANDOM]:
        mine = results[results["strategy"] == strategy].groupby(["labels", "subject_id", "case_id"])["dice"].mean()
        gains = (mine - expected).groupby(["labels", "subject_id"]).mean()
        for labels, dice in mine.groupby("labels").mean().items():
            low, high = bootstrap_interval(gains[labels].dropna().to_numpy(), rng)
            needed = labels_needed(curve, float(dice))
            rows.append(
                {
                    "labels": labels,
                    "strategy": strategy,
                    "dice": dice,
                    "random": curve[labels],
                    "lower": lower[labels],
                    "upper": upper[labels],
                    "difference": gains[labels].mean(),
                    "low": low,
                    "high": high,
                    "labels_saved": needed - labels,
                }
            )
    return pd.DataFrame(rows).sort_values(["strategy", "labels"], ignore_index=True)


def labels_needed(curve: pd.Series, dice: float) -> float:
    """Return the number of labels, between two of a curve, at which its running maximum comes to a Dice.

    NaN where it is beyond that from the first number on, or does not come to it.
    """
    best = curve.cummax().to_numpy()
    labels = curve.index.to_numpy(dtype=float)
    place = int(np.searchsorted(best, dice))
    if place == len(best) or dice < best[0]:
        return float("nan")
    if place == 0:
        return float(labels[0])
    step = best[place] - best[place - 1]
    return float(labels[place - 1] + (dice - best[place - 1]) / step * (labels[place] - labels[place - 1]))


def plot_simulation(results: pd.DataFrame, file: str | Path, tested: str = "a linear model on frozen features") -> Path:
    """Draw the Dice over the number of annotated scans, a line a strategy; random orders with their quartiles.

    Args:
        results: of a replay.
        file: of the picture.
        tested: what the Dice is of.
    """
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    mean = results.groupby(["strategy", "order", "labels"])["dice"].mean()
    for number, strategy in enumerate(sorted(mean.index.unique("strategy"), key=lambda name: name != RANDOM)):
        colour = COLOURS[number]
        orders = mean[strategy].unstack("order")
        axes.plot(orders.index, orders.mean(axis=1), color=colour, marker=".", label=strategy)
        if strategy == RANDOM:
            quartiles = orders.quantile([0.25, 0.75], axis=1)
            axes.fill_between(orders.index, *quartiles.to_numpy(), color=colour, alpha=0.12, linewidth=0)
    axes.set(xlabel="annotated scans", ylabel=f"Dice of {tested}")
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right", fontsize="small")
    return save_figure(figure, file)
