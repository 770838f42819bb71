"""What each command of ``python -m medssl`` does; ``__main__`` has their options."""

from __future__ import annotations

import argparse
import logging
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd


# Each command imports what it needs: torch and MONAI take seconds, which printing a path can do without.
def run_demo(options: argparse.Namespace) -> None:
    """The whole loop on phantoms."""
    from medssl.demo import demo

    demo(options.output)


def check_manifest(options: argparse.Namespace) -> None:
    """Load a manifest with all its checks and say what it holds."""
    from medssl.data import load_manifest
    from medssl.data.scans import slicing
    from medssl.data.splits import fold_subjects, own_test

    manifest = load_manifest(options.path, options.root)
    first = (manifest.training + manifest.unlabeled + manifest.validation + manifest.test)[0]
    logging.info(manifest.summary())
    try:
        folds = {fold: len(subjects) for fold, subjects in sorted(fold_subjects(manifest).items())}
        logging.info("folds: %s", ", ".join(f"{fold} ({count} subjects)" for fold, count in folds.items()))
    except ValueError as error:
        tested = "its own test section is what --fold '$None' tests on" if own_test(manifest) else "nothing to test on"
        logging.warning("no folds: %s As it is: %s.", error, tested)
    logging.info(slicing(first["image"], manifest.slice_axis, first.get("frame")))


def make_manifest(options: argparse.Namespace) -> None:
    """Write a manifest of what is there."""
    from medssl.data.converters import from_nnssl, from_nnunet, from_table
    from medssl.data.recipes import choose, read_recipe
    from medssl.data.write_manifest import write_manifest

    output = options.output or options.root / "manifest.json"
    if output.exists():
        raise FileExistsError(f"{output} is there already; give another file as --output, or move it away.")
    told = {
        "name": options.name,
        "modality": options.modality and {"0": options.modality},
        "labels": options.labels and {str(number): name for number, name in enumerate(options.labels)},
        "slice_axis": options.slice_axis,
        "spacing": options.spacing,
        "window": options.window,
    }
    told = {key: value for key, value in told.items() if value is not None}
    sources = {
        "scan": lambda: of_files(
            {"layout": {"training": {"image": options.pattern, "label": options.label}}, **told}, options, output.parent
        ),
        "recipe": lambda: of_files(choose(read_recipe(options.recipe), options.labels) | told, options, output.parent),
        "nnunet": lambda: from_nnunet(options.root),
        "nnssl": lambda: from_nnssl(options.file, options.root),
        "csv": lambda: from_table(options.file),
    }
    if options.labels and options.labels[0] != "background":
        raise ValueError(f"labels must begin with background, the id 0, got {' '.join(options.labels)}.")
    manifest = write_manifest({**sources[options.source](), **told}, options.root, output)
    logging.info("%s\nwrote %s; look at the data with python -m medssl inspect", manifest.summary(), output)


def of_files(recipe: dict[str, Any], options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Return what a recipe makes of the data, for a manifest in some folder."""
    from medssl.data.recipes import from_recipe

    with processes(options.workers) as executor:
        return from_recipe(recipe, options.root, executor, folder)


def inspect_data(options: argparse.Namespace) -> None:
    """Inspect a data set; what stops a case is an error."""
    from medssl.inspection import inspect, write_page
    from medssl.inspection.page import lines

    output = options.output / "headers" if options.headers else options.output
    with processes(options.workers) as executor:
        inspection = inspect(options.path, output, executor, options.root, options.against, options.headers)
    page = write_page(inspection, output)
    logging.info("\n".join(lines(inspection)))
    logging.info("page: %s", page)
    if not inspection.sound:
        raise ValueError(f"{inspection.name} cannot be used as it is: see above, or {page}.")


def processes(count: int) -> ProcessPoolExecutor:
    """Return as many processes, of one thread each: as many as there are cores leave none for more."""
    import torch

    return ProcessPoolExecutor(count, initializer=torch.set_num_threads, initargs=(1,))


def make_phantoms(options: argparse.Namespace) -> None:
    """Write phantoms."""
    from medssl.data import write_phantoms

    count = {} if options.subjects is None else {"num_subjects": options.subjects}
    logging.info("wrote %s", write_phantoms(options.folder, seed=options.seed, **count))


def prepare_store(options: argparse.Namespace) -> None:
    """Write a slice store of every image that a manifest names."""
    from medssl.data import load_manifest, prepare, pretrain_records, store_recipe

    manifest = load_manifest(options.path, options.root)
    superpixels = None
    if options.superpixels:
        scale, sigma, min_size = options.superpixels
        superpixels = {"scale": scale, "sigma": sigma, "min_size": min_size}
    recipe = store_recipe(options.spacing or manifest.spacing, manifest.slice_axis, manifest.window, superpixels)
    records = pretrain_records(manifest, fold=None, transductive=True)
    with processes(options.workers) as executor:
        prepare(records, options.output, recipe, executor)
    logging.info("%d volumes are in %s", len(records), options.output)


def show_superpixels(options: argparse.Namespace) -> None:
    """Table what settings of super-pixels make of a data set, and draw them."""
    from itertools import product

    from medssl.benchmark import compare_superpixels
    from medssl.data import load_manifest

    manifest = load_manifest(options.path, options.root)
    settings = product(options.scale, options.sigma, options.min_size)
    table = compare_superpixels(manifest, settings, options.spacing, options.cases, options.output)
    logging.info(
        "%s\nsizes in pixels; Dice of a network that gives every region the label most of its pixels have\npicture: %s",
        table.round(2).to_string(),
        options.output,
    )


def show_embeddings(options: argparse.Namespace) -> None:
    """Draw what a checkpoint makes of the pixels."""
    from medssl.benchmark import plot_embeddings
    from medssl.data import load_manifest

    manifest = load_manifest(options.path, options.root)
    picture = plot_embeddings(
        options.checkpoint, manifest, options.output, num_cases=options.cases, num_clusters=options.clusters
    )
    logging.info("picture: %s", picture)


def suggest_scans(options: argparse.Namespace) -> None:
    """Rank the scans that have no label."""
    from medssl.atomic import replace
    from medssl.data import load_manifest
    from medssl.label import embed_pool, plot_map, suggest, to_table

    manifest = load_manifest(options.path, options.root)
    pool = embed_pool(manifest, options.checkpoint, options.output / "scans", options.finetuned, options.from_scratch)
    suggestions = list(suggest(pool, options.count, options.slices))
    table = to_table(suggestions)
    file = options.output / "suggestions.csv"
    replace(file, table.to_csv)
    picture = plot_map(pool, suggestions, manifest.slice_axis, options.output / "map.png")
    logging.info("%s\ntable: %s\nmap: %s", table.drop(columns="gain").to_string(), file, picture)


def simulate_annotation(options: argparse.Namespace) -> None:
    """Replay the annotation of a labelled data set."""
    from concurrent.futures import ThreadPoolExecutor
    from functools import partial

    from medssl.atomic import replace
    from medssl.benchmark import to_markdown
    from medssl.data import load_manifest
    from medssl.label import compare_orders, confirm, fine_tunings, plot_simulation, read_labelled, simulate

    def write(results: pd.DataFrame, name: str, tested: str) -> None:
        table = to_markdown(compare_orders(results, options.seed))
        replace(options.output / f"{name}.csv", partial(results.to_csv, index=False))
        replace(options.output / f"{name}.md", partial(Path.write_text, data=table + "\n", encoding="utf-8"))
        picture = plot_simulation(results, options.output / f"{name}.png", tested)
        logging.info("%s\npicture: %s", table, picture)

    manifest = load_manifest(options.path, options.root)
    scans = read_labelled(manifest, options.checkpoint)
    results = simulate(manifest, scans, options.scans, options.orders, options.seed)
    write(results, "simulation", "a linear model on frozen features")
    if options.finetune:
        numbers, orders, folder = options.finetune, options.finetune_orders, options.output / "finetuned"
        runs = fine_tunings(results, manifest, options.checkpoint, numbers, orders, options.overlays, folder)
        with ThreadPoolExecutor(options.workers) as executor:
            write(confirm(runs, executor), "finetuned", "fine-tuned networks")


def publish_run(options: argparse.Namespace) -> None:
    """Make a bundle of a fine-tuned run."""
    from medssl.publish import publish

    bundle = publish(options.run, options.name, options.output, options.overlays, options.release)
    logging.info("bundle: %s; how it is used: %s", bundle, bundle / "docs/README.md")


def print_path(options: argparse.Namespace) -> None:
    """Print a path, bare, for use in a shell."""
    from medssl.resources import resource

    sys.stdout.write(f"{resource(options.name)}\n")
