"""Commands that are no workflow: ``python -m medssl COMMAND``. Training is ``python -m monai.bundle run``."""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
from pathlib import Path

from medssl import __version__
from medssl import commands as run

VERBS = ("check", "scan", "recipe", "nnunet", "nnssl", "csv")  # of `manifest`


def main(arguments: list[str] | None = None) -> int:
    """Run one command.

    Returns:
        0; 1 where something was refused or failed, 130 where Ctrl-C stopped it. Wrong arguments exit with 2.
    """
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given[:1] == ["manifest"] and not {*given[1:2]} & {*VERBS, "-h", "--help"}:
        given.insert(1, "check")
    options = parser().parse_args(given)
    try:
        options.command(options)
    except (OSError, ValueError) as error:
        logging.error("medssl: %s", error)
        return 1
    except RuntimeError as error:
        from medssl.engine.command_line import reason

        logging.error("medssl: %s", reason(error))
        return 1
    except KeyboardInterrupt:
        logging.error("medssl: stopped by Ctrl-C.")
        return 130
    return 0


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    top = argparse.ArgumentParser(prog="python -m medssl", description=__doc__)
    top.add_argument("--version", action="version", version=__version__)
    commands = top.add_subparsers(required=True, metavar="COMMAND")

    demo = commands.add_parser("demo", help="pre-train, fine-tune and compare on phantoms; a few minutes on two cores")
    demo.add_argument("--output", type=Path, default=Path("demo"), help="folder for phantoms, runs, table and pictures")
    demo.set_defaults(command=run.run_demo)

    manifest = commands.add_parser("manifest", help="check a manifest, or make one of a folder, a table, a data set")
    verbs = manifest.add_subparsers(required=True, metavar="|".join(VERBS))
    check = verbs.add_parser("check", help="list every problem; `manifest PATH` is short for it")
    check.add_argument("path", help="file, or the name of a manifest that comes with medssl")
    check.add_argument("--root", type=Path, help="folder that its paths start from; default: the manifest's own")
    check.set_defaults(command=run.check_manifest)
    scan = verbs.add_parser("scan", help="of the files of a folder, by their names")
    scan.add_argument("root", type=Path, metavar="folder")
    scan.add_argument("--pattern", required=True, help="of the images, such as 'images/{subject}_{case}.nii.gz'")
    scan.add_argument(
        "--label", help="of the labels, such as 'labels/{subject}_{case}.nii.gz', or '{case}/{organ}.nrrd': a file each"
    )
    recipe = verbs.add_parser("recipe", help="of a public data set, as it is downloaded")
    recipe.add_argument("recipe", help="name of one that comes with medssl, or a YAML file")
    recipe.add_argument("root", type=Path, metavar="folder")
    for verb in (scan, recipe):
        verb.add_argument(
            "--workers", type=positive, default=os.cpu_count(), help="cases at a time that labels are joined of"
        )
    nnunet = verbs.add_parser("nnunet", help="of a folder of nnU-Net v2")
    nnunet.add_argument("root", type=Path, metavar="folder")
    nnssl = verbs.add_parser("nnssl", help="of a pretrain_data.json of nnssl")
    csv = verbs.add_parser(
        "csv", help="of a table with a column image; label, case_id, subject_id, fold, frame, section"
    )
    for verb in (nnssl, csv):
        verb.add_argument("file", type=Path)
        verb.add_argument("--root", type=Path, required=True, help="folder that the paths start from")
    for source, verb in {"scan": scan, "recipe": recipe, "nnunet": nnunet, "nnssl": nnssl, "csv": csv}.items():
        verb.add_argument("--output", type=Path, help="file to write; default: manifest.json in the folder")
        verb.add_argument("--name", help="of the data set; default: the folder's")
        verb.add_argument("--modality", help="CT, MR, ...")
        verb.add_argument("--labels", nargs="+", metavar="NAME", help="of the ids 0, 1, ...: background first")
        verb.add_argument("--slice-axis", "--slice_axis", help="S, I, A, P, R, L or largest_spacing; default: S")
        verb.add_argument(
            "--spacing", nargs=3, type=spacing, metavar=("DEPTH", "HEIGHT", "WIDTH"), help="mm, or None for the file's"
        )
        verb.add_argument("--window", type=json.loads, help="such as '{\"hu\": [-160, 240]}'")
        verb.set_defaults(command=run.make_manifest, source=source)

    inspect = commands.add_parser("inspect", help="read every file of a manifest to its end; show all that is wrong")
    inspect.add_argument("path", help="file, or the name of a manifest that comes with medssl")
    inspect.add_argument("--root", type=Path, help="folder that its paths start from; default: the manifest's own")
    inspect.add_argument(
        "--output", type=Path, default=Path("inspection"), help="folder for inspection.html and inspection.json"
    )
    inspect.add_argument(
        "--against", type=Path, nargs="+", default=[], help="inspection.json of other data sets, to find their scans"
    )
    inspect.add_argument("--headers", action="store_true", help="headers and lengths alone: milliseconds a case")
    inspect.add_argument("--workers", type=positive, default=os.cpu_count(), help="cases at a time; default: all cores")
    inspect.set_defaults(command=run.inspect_data)

    phantoms = commands.add_parser("phantoms", help="write cardiac MR phantoms and their manifest")
    phantoms.add_argument("folder", type=Path)
    phantoms.add_argument("--subjects", type=int, help="how many; default: those of the shipped manifest")
    phantoms.add_argument("--seed", type=int, default=0)
    phantoms.set_defaults(command=run.make_phantoms)

    prepare = commands.add_parser("prepare", help="resample volumes and find their regions once, for fast training")
    prepare.add_argument("path", help="file, or the name of a manifest that comes with medssl")
    prepare.add_argument("--root", type=Path, help="folder that its paths start from; default: the manifest's own")
    prepare.add_argument("--output", type=Path, required=True, help="folder of the slice store")
    prepare.add_argument(
        "--spacing",
        nargs=3,
        type=spacing,
        metavar=("DEPTH", "HEIGHT", "WIDTH"),
        help="mm, or None for the file's; default: the manifest's",
    )
    prepare.add_argument(
        "--superpixels",
        nargs=3,
        type=number,
        metavar=("SCALE", "SIGMA", "MIN_SIZE"),
        help="find regions as well; see medssl.transforms.Superpixels",
    )
    prepare.add_argument(
        "--workers", type=positive, default=os.cpu_count(), help="volumes at a time; default: all cores"
    )
    prepare.set_defaults(command=run.prepare_store)

    superpixels = commands.add_parser(
        "superpixels", help="count the regions of some settings and their best possible Dice"
    )
    superpixels.add_argument("path", help="file, or the name of a manifest that comes with medssl")
    superpixels.add_argument("--root", type=Path, help="folder that its paths start from; default: the manifest's own")
    superpixels.add_argument(
        "--spacing", nargs=3, type=spacing, metavar=("DEPTH", "HEIGHT", "WIDTH"), help="mm, or None for the file's"
    )
    superpixels.add_argument("--scale", nargs="+", type=float, default=[5, 20, 100])
    superpixels.add_argument("--sigma", nargs="+", type=float, default=[0.5])
    superpixels.add_argument("--min-size", "--min_size", nargs="+", type=positive, default=[10, 50])
    superpixels.add_argument("--cases", type=positive, default=5, help="how many labelled cases; default: 5")
    superpixels.add_argument("--output", type=Path, default=Path("superpixels.png"), help="picture of one slice")
    superpixels.set_defaults(command=run.show_superpixels)

    embeddings = commands.add_parser(
        "embeddings", help="draw clusters of a checkpoint's embeddings, beside its regions"
    )
    embeddings.add_argument("checkpoint", type=Path, help="model.pt of the pretrain or the finetune bundle")
    embeddings.add_argument("path", help="file, or the name of a manifest that comes with medssl")
    embeddings.add_argument("--root", type=Path, help="folder that its paths start from; default: the manifest's own")
    embeddings.add_argument("--cases", type=positive, default=3, help="how many; default: 3")
    embeddings.add_argument("--clusters", type=int, default=8, help="of k-means; default: 8")
    embeddings.add_argument("--output", type=Path, default=Path("embeddings.png"), help="picture")
    embeddings.set_defaults(command=run.show_embeddings)

    suggest = commands.add_parser(
        "suggest", help="rank the scans that have no label by what each adds, with the reason"
    )
    suggest.add_argument("path", help="file, or the name of a manifest that comes with medssl")
    suggest.add_argument("--checkpoint", type=Path, required=True, help="model.pt of the pretrain bundle")
    suggest.add_argument(
        "--finetuned", type=Path, help="model.pt of the finetune bundle, whose uncertainty counts beside the coverage"
    )
    suggest.add_argument("--root", type=Path, help="folder that its paths start from; default: the manifest's own")
    suggest.add_argument("--count", type=positive, default=10, help="how many scans; default: 10")
    suggest.add_argument(
        "--slices", type=positive, default=3, help="of each scan, to annotate first, counted from 0; default: 3"
    )
    suggest.add_argument(
        "--from-scratch", "--from_scratch", action="store_true", help="as if no scan of the manifest had a label"
    )
    suggest.add_argument(
        "--output",
        type=Path,
        default=Path("suggestions"),
        help="folder for suggestions.csv, map.png and features; default: suggestions",
    )
    suggest.set_defaults(command=run.suggest_scans)

    simulate = commands.add_parser(
        "simulate",
        help="replay the annotation of a labelled data set: what each order of its scans would have bought",
        description="Annotate a labelled data set scan by scan in several orders and table the Dice after each: by a "
        "linear model on frozen features, in minutes; with --finetune by networks, in minutes each.",
    )
    simulate.add_argument("path", help="file, or the name of a manifest that comes with medssl")
    simulate.add_argument("--checkpoint", type=Path, required=True, help="model.pt of the pretrain bundle")
    simulate.add_argument("--root", type=Path, help="folder that its paths start from; default: the manifest's own")
    simulate.add_argument("--scans", type=positive, default=10, help="scans that are annotated; default: 10")
    simulate.add_argument("--orders", type=positive, default=20, help="random orders to compare with; default: 20")
    simulate.add_argument("--seed", type=int, default=0)
    simulate.add_argument(
        "--finetune",
        type=positive,
        nargs="+",
        metavar="N",
        help="confirm by fine-tuning after so many scans, a run an order and fold; given again, it goes on",
    )
    simulate.add_argument(
        "--finetune-orders", type=positive, default=3, help="random orders that are confirmed; default: 3"
    )
    simulate.add_argument(
        "--overlays", nargs="+", default=[], help="of the finetune bundle, for that, such as small.yaml, or files"
    )
    simulate.add_argument("--workers", type=positive, default=1, help="runs at a time; default: 1")
    simulate.add_argument(
        "--output",
        type=Path,
        default=Path("simulation"),
        help="folder for simulation.md, .csv and .png, with --finetune finetuned.md, ... too; default: simulation",
    )
    simulate.set_defaults(command=run.simulate_annotation)

    publish = commands.add_parser(
        "publish", help="make a bundle of a fine-tuned run, for others: it takes MONAI, and not medssl"
    )
    publish.add_argument(
        "run", type=Path, help="its folder, or its weights, such as best.pt; or medssl/finetune of an annotated folder"
    )
    publish.add_argument("name", help="of the bundle, such as liver_ct_segmentation")
    publish.add_argument("--output", type=Path, default=Path(), help="folder that it is made in; default: this one")
    publish.add_argument(
        "--overlays", nargs="+", default=[], help="that the run was trained with and inference takes, such as vit.yaml"
    )
    publish.add_argument("--release", default="0.1.0", help="version of the bundle; default: 0.1.0")
    publish.set_defaults(command=run.publish_run)

    path = commands.add_parser("path", help="print where something that comes with medssl lies")
    path.add_argument(
        "name", help="bundles/pretrain, bundles/finetune, bundles/benchmark, data_manifests/acdc.json, ..."
    )
    path.set_defaults(command=run.print_path)
    return top


def spacing(text: str) -> float | None:
    """Return a length in mm, or None."""
    return None if text == "None" else float(text)


def positive(text: str) -> int:
    """Return a whole number of at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 1, got {text}")
    return int(text)


def number(text: str) -> int | float:
    """Return a number, whole if it is written so."""
    return int(text) if text.isdecimal() else float(text)


if __name__ == "__main__":
    sys.exit(main())
