"""The scans of a data set on a map, those to annotate numbered and shown."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from medssl.engine.overlays import COLOURS, draw_slice, save_figure
from medssl.label.suggestions import Pool, Suggestion
from medssl.readers import read_scan
from medssl.transforms.spacing import voxel_axis

SHOWN = 8  # suggestions that have their picture


def plot_map(pool: Pool, suggestions: Sequence[Suggestion], slice_axis: str, file: str | Path) -> Path:
    """Draw the first two principal components of all scans, and the first slice of the first suggestions.

    Args:
        pool: of scans.
        suggestions: of it, ranked.
        slice_axis: of the manifest.
        file: picture to write.
    """
    u, scale, _ = np.linalg.svd(pool.embeddings - pool.embeddings.mean(axis=0), full_matrices=False)
    places = (u * scale)[:, :2]
    places = np.pad(places, ((0, 0), (0, 2 - places.shape[1])))  # of one scan there is one component
    places = places * np.sign(places[np.abs(places).argmax(axis=0), [0, 1]] + 1e-12)  # signs are arbitrary
    share = scale**2 / max(float((scale**2).sum()), 1e-12)
    shown = suggestions[:SHOWN]
    figure = Figure(figsize=(11, 5.2), layout="constrained")
    plane, gallery = figure.subfigures(1, 2, squeeze=False, width_ratios=[1.1, 1])[0]
    axes = plane.subplots()
    suggested = [one.place for one in suggestions]
    rest = sorted(set(range(len(places))) - set(pool.annotated) - set(suggested))
    for name, which, colour, size in (
        ("other scans", rest, "#BBBBBB", 18),
        ("annotated", pool.annotated, COLOURS[1], 30),
        ("suggested", suggested, COLOURS[2], 30),
    ):
        if which:
            axes.scatter(*places[which].T, s=size, color=colour, label=f"{name} ({len(which)})", linewidths=0)
    for rank, one in enumerate(suggestions, start=1):
        axes.annotate(str(rank), places[one.place], xytext=(3, 3), textcoords="offset points", fontsize="small")
    axes.set(xlabel=f"first component ({share[0]:.0%})", xticks=[], yticks=[])
    axes.set_ylabel(f"second component ({share[1] if len(share) > 1 else 0:.0%})")
    axes.legend(fontsize="small", frameon=False, loc="best")
    panels = gallery.subplots(2, 4, squeeze=False).ravel()
    for axes in panels:
        axes.axis("off")
    for rank, (axes, one) in enumerate(zip(panels, shown, strict=False), start=1):
        record = pool.records[one.place]
        scan = read_scan(record["image"], record.get("frame"))
        pixels = np.take(np.asarray(scan.dataobj), one.slices[0], voxel_axis(scan.affine, slice_axis)).T
        draw_slice(axes, pixels, None, 1)
        axes.set_title(f"{rank}: {one.case_id}\nslice {one.slices[0]}", fontsize="x-small")
    return save_figure(figure, file)
