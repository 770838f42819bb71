"""The report of a grid: tables, differences, curves, times and pictures."""

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from medssl.atomic import replace
from medssl.benchmark.figures import plot_differences, plot_learning_curves, plot_overlays
from medssl.benchmark.results import at_step, case_dice, comparable, pooled_dice, read_results, run_folder
from medssl.benchmark.tables import (
    by_labels,
    in_order,
    learning_curve,
    mean_std_table,
    paired_differences,
    to_markdown,
)
from medssl.data import Manifest

logger = logging.getLogger(__name__)


def write_report(output_dir: str | Path, manifest: Manifest, baseline: str = "random") -> Path:
    """Write ``report.md``, its pictures and ``runs.csv`` into a grid's folder, and log the main table.

    The grid need not be complete: reported are the folds and draws that all methods found there have finished.
    Differences and pictures need the baseline.

    Args:
        output_dir: the grid's folder.
        manifest: of the data, for the pictures.
        baseline: method that the others are compared with.

    Returns:
        Path of the report.

    Raises:
        ValueError: if no fold and draw is finished for every method.
    """
    folder = Path(output_dir)
    every = read_results(folder).sort_values("method", key=lambda names: names != baseline, kind="stable")
    results = comparable(every)
    if results.empty:
        raise ValueError(f"no fold and draw below {folder} is finished for every method; run more of the grid first.")
    replace(folder / "runs.csv", lambda file: every_run(every).to_csv(file, index=False))
    left_out = count_runs(every) - count_runs(results)
    main = mean_std_table(results)
    curves = plot_learning_curves(results, folder / "learning_curves.png")
    sections = [
        f"# {manifest.name}: Dice after the last fine-tuning step",
        "Mean over the folds, standard deviation over the folds in brackets; columns are numbers of labelled subjects.",
        f"{count_runs(results)} fine-tunings; {left_out} more are finished, whose fold and draw other methods lack. "
        "`runs.csv` has every run at every evaluation.",
        what_was_seen(folder, results),
        "## Per case",
        to_markdown(main),
        "## Pooled over the voxels of a fold",
        to_markdown(mean_std_table(results, "pooled")),
        f"## Difference to {baseline}, per case",
        "Same cases, folds and label draws; 95 % bootstrap interval over subjects, blind to other draws and seeds.",
        *differences(results, baseline, folder / "differences.png"),
        "## Over the fine-tuning steps",
        to_markdown(learning_curve(results)),
        f"![Dice over steps]({curves.name})",
        "## Per class",
        to_markdown(per_class(results)),
        "## False voxels for each voxel of a class",
        "In the fold and draw where they are most: an accident of one run moves a mean more than most methods do.",
        to_markdown(false_voxels(results), digits=1),
        "## Per fold and label draw",
        to_markdown(per_run(results)),
        "## Wall time, minutes a run",
        to_markdown(wall_time(folder), digits=1),
    ]
    report = folder / "report.md"
    write(report, sections)  # tables first: predicting takes a while, and may fail
    if baseline in main.index and segments(folder):
        labels, fold, draw = first_cell(results[results["method"] == baseline])
        overlays = plot_overlays(results, folder, manifest, folder / "overlays.png", labels, fold, draw, baseline)
        sections += [
            "## Predictions",
            f"The {baseline} network's worst and its median case, {labels} labelled subjects, "
            f"fold {fold}, draw {draw}; the number beside a method is its Dice of this case.",
            f"![Predictions]({overlays.name})",
        ]
        write(report, sections)
    logger.info("Dice per case, mean(std over folds), by number of labelled subjects:\n\n%s\n", main.to_string())
    logger.info("Dice per case of every fold and label draw:\n\n%s\n", per_run(results).round(3).to_string())
    logger.info("report: %s\npictures: %s", report, ", ".join(map(str, sorted(folder.glob("*.png")))))
    return report


def differences(results: pd.DataFrame, baseline: str, picture: Path) -> list[str]:
    """Return the table of what the other methods gain over the baseline, and its picture."""
    if baseline not in set(results["method"]):
        return [f"{baseline} is not finished."]
    table = paired_differences(results, baseline)
    shown = [f"![Differences to {baseline}]({plot_differences(table, baseline, picture).name})"] if len(table) else []
    return [to_markdown(table), *shown]


def write(report: Path, sections: list[str]) -> None:
    """Write a report's sections; a reader never sees half of it."""
    text = "\n\n".join(sections) + "\n"
    replace(report, lambda file: file.write_text(text, encoding="utf-8"))


def first_cell(results: pd.DataFrame) -> tuple[str, int, int]:
    """Return the smallest number of labels, and its first fold and draw."""
    label = by_labels(pd.Index(results["labels"].unique()))[0]
    fold, draw = min(results.loc[results["labels"] == label, ["fold", "draw"]].itertuples(index=False))
    return label, int(fold), int(draw)


def count_runs(results: pd.DataFrame) -> int:
    """Return how many fine-tunings a table holds."""
    return len(results[["method", "labels", "fold", "draw"]].drop_duplicates())


def segments(folder: Path) -> bool:
    """Whether the finetune bundle's inference can run these networks; linear probes have no place in it."""
    receipts = folder.glob("finetune/*/*/model.json")
    return all(json.loads(file.read_text(encoding="utf-8"))["network"] != "LinearProbe" for file in receipts)


def every_run(results: pd.DataFrame) -> pd.DataFrame:
    """Return the Dice of every run at every evaluation, ``case`` and ``pooled``."""
    keys = ["method", "labels", "fold", "draw", "step"]
    dice = {
        "case": case_dice(results).groupby(keys)["dice"].mean(),
        "pooled": pooled_dice(results).set_index(keys)["dice"],
    }
    return pd.DataFrame(dice).round(4).reset_index()


def per_class(results: pd.DataFrame) -> pd.DataFrame:
    """Return the last step's Dice of every class (column), mean over the cases that have it."""
    dice = at_step(results).groupby(["labels", "method", "class"])["dice"].mean().unstack("class")
    return in_order(dice[list(dict.fromkeys(results["class"]))], results)


def false_voxels(results: pd.DataFrame) -> pd.DataFrame:
    """Return the last step's false voxels of every class (column) over its true ones, the largest of folds and draws.

    A class that no case of a fold has is left out there.
    """
    keys = ["labels", "method", "fold", "draw", "class"]
    counts = at_step(results).groupby(keys)[["tp", "fp", "fn"]].sum()
    truth = counts["tp"] + counts["fn"]
    share = (counts["fp"] / truth.where(truth > 0)).groupby(["labels", "method", "class"]).max().unstack("class")
    return in_order(share[list(dict.fromkeys(results["class"]))], results)


def per_run(results: pd.DataFrame) -> pd.DataFrame:
    """Return the last step's per-case Dice of every fold (column) and label draw (row)."""
    keys = ["labels", "draw", "method", "fold"]
    return in_order(case_dice(at_step(results)).groupby(keys)["dice"].mean().unstack("fold"), results)


def what_was_seen(folder: Path, results: pd.DataFrame) -> str:
    """Say whether the weights that the tabled fine-tunings started from had seen images of their test subjects."""
    cells = results[["method", "labels", "fold", "draw"]].drop_duplicates()
    runs: Iterator[Any] = cells.itertuples(index=False)
    files = [run_folder(folder, run.method, run.labels, run.fold, run.draw) / "model.json" for run in runs]
    receipts = [json.loads(file.read_text(encoding="utf-8")) for file in files]
    starts = [value for receipt in receipts for key, value in receipt.items() if key.startswith("pretrained") and value]
    seen = [start.get("test_subjects_seen") for start in starts]
    if any(seen):
        return "Transductive: pre-trainings saw the images, not the labels, of test subjects."
    if None in seen:
        return "Of some weights it is not known whether they saw test subjects."
    return "The pre-trainings saw no test subject." if seen else "Nothing was pre-trained."


def wall_time(folder: Path) -> pd.DataFrame:
    """Return how long runs took, minutes, mean over those of a stage and method; continued ones are left out."""
    facts = {file: json.loads(file.read_text(encoding="utf-8")) for file in folder.glob("*/*/*/finished.json")}
    rows = [(file.parts[-4], file.parts[-3], run["seconds"] / 60) for file, run in facts.items() if not run["resumed"]]
    return pd.DataFrame(rows, columns=["stage", "method", "minutes"]).groupby(["stage", "method"]).mean()
