"""Pictures of a benchmark: Dice over fine-tuning steps, and predictions beside the truth."""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
import yaml
from matplotlib.figure import Figure
from matplotlib.rcsetup import cycler
from monai.bundle import ConfigWorkflow

from medssl.benchmark.results import at_step, case_dice, run_folder
from medssl.benchmark.tables import by_labels, fold_dice
from medssl.data import Manifest
from medssl.engine.overlays import COLOURS, add_legend, draw_slice, fullest_slice, save_figure
from medssl.readers import read_scan
from medssl.resources import resource
from medssl.transforms import KnownLabels
from medssl.transforms.spacing import voxel_axis

BANDS = 5  # lines that may have one: more would hide each other
COLUMNS = 8  # panels of a case beside each other


def plot_learning_curves(results: pd.DataFrame, file: str | Path) -> Path:
    """Draw the mean per-case Dice over the fine-tuning steps, a panel per number of labels, a line per method.

    The band is one standard deviation over the folds, left out where there are more than five methods. Where the lines
    still rise, a gain may be mere speed.
    """
    folds = fold_dice(results)
    methods = list(dict.fromkeys(results["method"]))
    labels = by_labels(pd.Index(folds["labels"].unique()))
    figure = Figure(figsize=(4.2 * len(labels), 3.4), layout="constrained")
    for axes, label in zip(np.atleast_1d(figure.subplots(1, len(labels), sharey=True)), labels, strict=True):
        axes.set_prop_cycle(cycler(linestyle=["-", "--", ":"]) * cycler(color=COLOURS))
        for method in methods:
            mine = folds[(folds["labels"] == label) & (folds["method"] == method)].groupby("step")["dice"]
            mean, deviation = mine.mean(), mine.std().fillna(0)
            (line,) = axes.plot(mean.index, mean, marker=".", label=method)
            if len(methods) <= BANDS:
                band = {"color": line.get_color(), "alpha": 0.1, "linewidth": 0}
                axes.fill_between(mean.index, mean - deviation, mean + deviation, **band)
        axes.set(title=f"{label} labelled subjects", xlabel="fine-tuning steps")
        axes.grid(alpha=0.3)
    figure.axes[0].set_ylabel("Dice per case")
    if len(methods) <= BANDS:
        figure.axes[-1].legend(loc="lower right", fontsize="small")
    else:
        figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside right upper", fontsize="small")
    return save_figure(figure, file)


def plot_differences(differences: pd.DataFrame, baseline: str, file: str | Path) -> Path:
    """Draw every method's difference to a baseline and its interval, a panel per number of labels, a row per method.

    Args:
        differences: from :py:func:`medssl.benchmark.paired_differences`.
        baseline: whose results they are counted from, for the axis.
        file: picture to write.
    """
    labels, methods = by_labels(pd.Index(differences["labels"].unique())), list(dict.fromkeys(differences["method"]))
    figure = Figure(figsize=(1.6 + 2.8 * len(labels), 1.2 + 0.28 * len(methods)), layout="constrained")
    for axes, label in zip(
        np.atleast_1d(figure.subplots(1, len(labels), sharex=True, sharey=True)), labels, strict=True
    ):
        mine = differences[differences["labels"] == label].set_index("method").reindex(methods)
        reach = [mine["difference"] - mine["low"], mine["high"] - mine["difference"]]
        axes.errorbar(mine["difference"], range(len(methods)), xerr=reach, color=COLOURS[1], fmt="o", markersize=4)
        axes.axvline(0, color=COLOURS[0], linewidth=0.8)
        axes.set(title=f"{label} labelled subjects", xlabel=f"Dice per case, to {baseline}")
        axes.grid(axis="x", alpha=0.3)
    figure.axes[0].set_yticks(range(len(methods)), methods)
    figure.axes[0].invert_yaxis()
    return save_figure(figure, file)


def plot_overlays(
    results: pd.DataFrame,
    output_dir: str | Path,
    manifest: Manifest,
    file: str | Path,
    labels: str,
    fold: int = 0,
    draw: int = 0,
    baseline: str = "random",
) -> Path:
    """Draw test cases with the truth and every method's prediction, one slice each.

    The cases are the one on which the baseline is worst, and its median; the slice holds the most foreground.

    Args:
        results: from :py:func:`medssl.benchmark.read_results`.
        output_dir: the grid's folder, for the weights.
        manifest: where the cases lie.
        file: picture to write.
        labels: number of labelled subjects of the fine-tunings shown, as text.
        fold: of the fine-tunings shown.
        draw: of the fine-tunings shown.
        baseline: whose Dice chooses the cases.
    """
    dice = case_dice(at_step(results)).query("labels == @labels and fold == @fold and draw == @draw")
    ranked = dice[dice["method"] == baseline].sort_values("dice")["case_id"].tolist()
    cases = [ranked[0], ranked[len(ranked) // 2]]
    records = {record["case_id"]: record for record in manifest.training}
    keys = ("image", "frame")
    images: list[dict[str, Any]] = [{key: records[case][key] for key in keys if key in records[case]} for case in cases]
    methods = [method for method in dict.fromkeys(results["method"]) if method in set(dice["method"])]
    weights = {method: run_folder(output_dir, method, labels, fold, draw) / "model.pt" for method in methods}
    predictions = {method: predict(file, images) for method, file in weights.items()}
    scores = dice.set_index(["method", "case_id"])["dice"]
    rows = math.ceil((2 + len(methods)) / COLUMNS)  # of a case
    columns = math.ceil((2 + len(methods)) / rows)
    figure = Figure(figsize=(2.2 * columns, 2.4 * rows * len(cases)), layout="constrained")
    known = KnownLabels(manifest.labels, manifest.label_policy)
    panels = figure.subplots(rows * len(cases), columns).reshape(len(cases), -1)
    for number, (case, axes) in enumerate(zip(cases, panels, strict=True)):
        scan, label = (read_scan(records[case][key], records[case].get("frame")) for key in ("image", "label"))
        image, truth = np.asarray(scan.dataobj), known(np.asarray(label.dataobj))
        axis = voxel_axis(scan.affine, manifest.slice_axis)
        place = fullest_slice(truth, axis)
        slices = [np.take(volume, place, axis).T for volume in (truth, *(predictions[m][number] for m in methods))]
        titles = [case, "truth", *(f"{method} {scores[method, case]:.2f}" for method in methods)]
        for panel, mask, title in zip(axes[: len(titles)], [None, *slices], titles, strict=True):
            draw_slice(panel, np.take(image, place, axis).T, mask, manifest.num_classes)
            panel.set_title(title, fontsize="small")
        for panel in axes[len(titles) :]:
            panel.axis("off")
    add_legend(figure, list(manifest.labels.values()))
    return save_figure(figure, file)


def network_overlays(folder: Path) -> list[str]:
    """Return the overlays of a fine-tuning that make its network; inference takes them as well."""
    _, *overlays = json.loads((folder / "arguments.json").read_text(encoding="utf-8"))["config_file"]
    parts = ("network_def", "global_branch", "local_branch")
    ids = {file: yaml.safe_load(Path(file).read_text(encoding="utf-8")) or {} for file in overlays}
    return [file for file in overlays if any(name.lstrip("+").startswith(parts) for name in ids[file])]


def predict(checkpoint: Path, images: Sequence[dict[str, Any]]) -> list[Any]:
    """Segment volumes with the finetune bundle's inference and return the masks."""
    configs = [str(resource("bundles/finetune/configs/inference.yaml")), *network_overlays(checkpoint.parent)]
    masks = []
    for image in images:
        with tempfile.TemporaryDirectory() as folder:  # each its own: images of two folders may share a name
            workflow = ConfigWorkflow(
                config_file=configs,
                workflow_type="infer",
                logging_file=False,
                checkpoint=str(checkpoint),
                output_dir=folder,
                **{"dataset#data": [image]},
            )
            workflow.initialize()
            workflow.run()
            (mask,) = Path(folder).iterdir()
            masks.append(np.asarray(nib.load(mask).dataobj))
    return masks
