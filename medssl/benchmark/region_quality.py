"""How well super-pixels can follow the organs of a data set, before anything is trained on them."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from monai.transforms import Compose, CopyItemsd, ScaleIntensityd
from tqdm.auto import tqdm

from medssl.benchmark.embeddings import colour
from medssl.data import Manifest
from medssl.data.splits import finetune_record
from medssl.engine.overlays import save_figure
from medssl.transforms import KnownLabelsd, LoadScand, ResampleToSpacingd, SameGridd, Superpixels, Windowd

Setting = tuple[float, float, int]  # scale, sigma, min_size


def compare_superpixels(
    manifest: Manifest,
    settings: Iterable[Setting],
    spacing: Sequence[float | None] | None = None,
    num_cases: int = 5,
    picture: str | Path | None = None,
) -> pd.DataFrame:
    """Measure the regions that some settings make of the first labelled cases.

    Args:
        manifest: of the data; cases with labels are needed.
        settings: (scale, sigma, min_size) of :py:class:`medssl.transforms.Superpixels`.
        spacing: (depth, height, width), mm; None takes the manifest's.
        num_cases: how many cases.
        picture: PNG file to draw the regions of one slice into.

    Returns:
        A row per setting: regions a slice, the 5th percentile and the median of their sizes in pixels, and
        the best possible Dice of every class and their mean: that of a network that gives every region the
        label most of its pixels have.

    Raises:
        ValueError: if no case has labels.
    """
    records = [finetune_record(manifest, record) for record in manifest.training if "label" in record][:num_cases]
    if not records:
        raise ValueError(f"{manifest.name} has no labelled case to compare regions with; take a manifest that has.")
    load = Compose(
        [
            LoadScand(["image", "label"]),
            SameGridd(["image", "label"]),
            KnownLabelsd("label", manifest.labels, manifest.label_policy),
            ResampleToSpacingd(
                ["image", "label"], spacing or manifest.spacing, manifest.slice_axis, ["bilinear", "nearest"]
            ),
            Windowd("image", **manifest.window),
            CopyItemsd("image", names="scaled"),
            ScaleIntensityd("scaled"),
        ]
    )
    partitions = {setting: Superpixels(*setting) for setting in settings}
    found: dict[Setting, list[pd.Series]] = {setting: [] for setting in partitions}
    drawn: dict[Setting, np.ndarray] = {}
    for record in tqdm(records, "super-pixels", unit="case"):
        data = load(record)
        image, label = (np.asarray(data[key][0]) for key in ("scaled", "label"))  # (V, H, W)
        place = int((label > 0).sum(axis=(1, 2)).argmax())
        for setting, partition in partitions.items():
            regions = np.asarray(partition(image[None])[0])
            found[setting].append(quality(regions, label.astype(int), manifest))
            if setting not in drawn:
                drawn[setting] = colour(regions[place], image[place])
    if picture is not None:
        save_figure(compare(drawn), picture)
    rows = {setting: pd.concat(cases, axis=1).mean(axis=1) for setting, cases in found.items()}
    table = pd.DataFrame(rows).T.rename_axis(["scale", "sigma", "min_size"])
    table["mean Dice"] = table[[name for label, name in manifest.labels.items() if label > 0]].mean(axis=1)
    return table


def quality(regions: np.ndarray, label: np.ndarray, manifest: Manifest) -> pd.Series:
    """Return what one setting makes of one case: regions and label :math:`(V, H, W)`; absent classes are NaN."""
    counts, sizes, best = [], [], np.empty_like(label)
    for slice_regions, slice_label, slice_best in zip(regions, label, best, strict=True):
        number, classes = slice_regions.max() + 1, manifest.num_classes
        votes = np.bincount((slice_regions * classes + slice_label).ravel(), minlength=number * classes)
        votes = votes.reshape(number, classes)
        slice_best[:] = votes.argmax(axis=1)[slice_regions]
        counts.append(number)
        sizes.append(votes.sum(axis=1))
    size = np.concatenate(sizes)
    facts = {"regions": np.mean(counts), "smallest 5 %": np.quantile(size, 0.05), "median size": np.median(size)}
    for number, name in manifest.labels.items():
        if number > 0:
            truth, guess = label == number, best == number
            facts[name] = 2 * (truth & guess).sum() / (truth.sum() + guess.sum()) if truth.any() else np.nan
    return pd.Series(facts)


def compare(pictures: dict[Setting, np.ndarray]) -> Figure:
    """Return the regions of one slice under every setting, side by side."""
    columns = min(3, len(pictures))
    rows = -(-len(pictures) // columns)
    height, width, _ = next(iter(pictures.values())).shape
    figure = Figure(figsize=(4 * columns, (4 * height / width + 0.3) * rows), layout="constrained")
    for axes, (setting, image) in zip(
        figure.subplots(rows, columns, squeeze=False).flat, pictures.items(), strict=False
    ):
        axes.imshow(image)
        axes.set_title("scale {:g}, sigma {:g}, min_size {:d}".format(*setting), fontsize="small")
    for axes in figure.axes:
        axes.axis("off")
    return figure
