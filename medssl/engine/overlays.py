"""Predictions over the images they were made from, as a picture."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ignite.engine import Engine, Events
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from medssl.atomic import replace
from medssl.engine.case_metrics import dice, known_counts
from medssl.readers import read_scan
from medssl.transforms.spacing import voxel_axis

# Okabe and Ito's colours, told apart by everybody.
COLOURS = ["#000000", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#F0E442"]


class Overlays:
    """Draw the worst, the median and the best case of each evaluation, truth beside prediction.

    The slice of a case is the one that holds the most foreground; the Dice is of the whole volume.

    Args:
        file: picture to write, anew after every evaluation.
        slice_axis: of the manifest, see :py:class:`medssl.transforms.ResampleToSpacing`.
        classes: their names, background first.
    """

    def __init__(self, file: str | Path, slice_axis: str, classes: Sequence[str]) -> None:
        self.file, self.slice_axis, self.classes = Path(file), slice_axis, list(classes)
        self.cases: list[dict[str, Any]] = []

    def attach(self, engine: Engine) -> None:
        """Listen to an evaluator whose ``pred`` and ``label`` are one-hot on the grid of the image's file."""
        engine.add_event_handler(Events.STARTED, lambda _: self.cases.clear())
        engine.add_event_handler(Events.ITERATION_COMPLETED, self.collect)
        engine.add_event_handler(Events.COMPLETED, self.draw)

    def collect(self, engine: Engine) -> None:
        """Keep one slice of every case of this batch."""
        for batch, output in zip(engine.state.batch, engine.state.output, strict=True):
            score = dice(known_counts(batch, output)).nanmean()
            meta = batch["image"].meta
            file = read_scan(meta["filename_or_obj"], int(meta.get("frame", 1)))
            axis = voxel_axis(file.affine, self.slice_axis)
            truth, pred = (np.asarray(output[key].argmax(dim=0).cpu()) for key in ("label", "pred"))
            place = fullest_slice(truth, axis)
            image, truth, pred = (np.take(v, place, axis).T for v in (np.asarray(file.dataobj), truth, pred))
            case = {"name": batch.get("case_id", ""), "dice": float(score)}
            self.cases.append({**case, "image": image, "truth": truth, "prediction": pred})

    def draw(self, engine: Engine) -> None:
        """Draw the cases, three or as many as there are."""
        ranked = sorted((case for case in self.cases if not np.isnan(case["dice"])), key=lambda case: case["dice"])
        if not ranked:
            return
        places = {len(ranked) // 2: "median", len(ranked) - 1: "best", 0: "worst"}  # of few cases, each once
        shown = [(name, ranked[place]) for place, name in sorted(places.items())]
        figure = Figure(figsize=(6.6, 2.5 * len(shown)), layout="constrained")
        for (which, case), row in zip(shown, figure.subplots(len(shown), 3, squeeze=False), strict=True):
            heading = f"{which}: {case['name']}"
            titles = {"image": heading, "truth": "truth", "prediction": f"prediction, Dice {case['dice']:.2f}"}
            for axes, (key, title) in zip(row, titles.items(), strict=True):
                draw_slice(axes, case["image"], None if key == "image" else case[key], len(self.classes))
                axes.set_title(title, fontsize="small")
        add_legend(figure, self.classes)
        save_figure(figure, self.file)


def fullest_slice(label: Any, axis: int) -> int:
    """Return the slice that holds the most foreground."""
    others = tuple(other for other in range(label.ndim) if other != axis)
    return int((label > 0).sum(axis=others).argmax())


def draw_slice(axes: Axes, image: Any, mask: Any, num_classes: int) -> None:
    """Draw a slice in grey, its classes translucent over it, without the dark around it."""
    low, high = np.percentile(image, [0.5, 99.5])
    axes.imshow(image, cmap="gray", vmin=low, vmax=high)
    if mask is not None:
        shown = np.ma.masked_equal(mask, 0)
        axes.imshow(
            shown,
            cmap=ListedColormap(class_colours(num_classes)),
            vmin=1,
            vmax=num_classes - 1,
            alpha=0.5,
            interpolation="nearest",
        )
    rows, columns = bright_part(image > low + 0.1 * (high - low))
    axes.set(xlim=(columns.start - 0.5, columns.stop - 0.5), ylim=(rows.stop - 0.5, rows.start - 0.5))
    axes.axis("off")


def bright_part(bright: Any) -> tuple[slice, slice]:
    """Return the rows and columns that some marked pixels span and two on each side; all where none is marked."""
    if not bright.any():
        bright = np.ones_like(bright)
    ends = [np.flatnonzero(bright.any(axis=other))[[0, -1]] for other in (1, 0)]
    rows, columns = (
        slice(max(0, int(first) - 2), min(side, int(last) + 3))
        for (first, last), side in zip(ends, bright.shape, strict=True)
    )
    return rows, columns


def class_colours(num_classes: int) -> list[str]:
    """Return the colours of all classes but the background."""
    return [COLOURS[1 + number % (len(COLOURS) - 1)] for number in range(num_classes - 1)]


def add_legend(figure: Figure, classes: Sequence[str]) -> None:
    """Name the classes below a picture, background left out."""
    pairs = zip(class_colours(len(classes)), classes[1:], strict=True)
    handles = [Patch(color=colour, alpha=0.5, label=name) for colour, name in pairs]
    columns = max(1, int(figure.get_figwidth() / 1.6))  # inches a name may take
    figure.legend(handles=handles, loc="outside lower center", ncols=columns, fontsize="small", frameon=False)


def save_figure(figure: Figure, file: str | Path) -> Path:
    """Write a picture; a reader never sees half of it."""
    file = Path(file)
    replace(file, lambda part: figure.savefig(part, dpi=110, format="png"))
    return file
