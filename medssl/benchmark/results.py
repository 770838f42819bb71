"""All measurements of a grid, in one table."""

import re
from pathlib import Path

import pandas as pd

from medssl.engine.case_metrics import read_metrics

FOLDER = re.compile(r"m(?P<labels>\d+|all)_fold(?P<fold>\d+)_draw(?P<draw>\d+)")


def run_folder(output_dir: str | Path, method: str, labels: str, fold: int, draw: int) -> Path:
    """Return where a grid keeps one fine-tuning."""
    return Path(output_dir) / "finetune" / method / f"m{labels}_fold{fold}_draw{draw}"


def read_results(output_dir: str | Path) -> pd.DataFrame:
    """Read the ``metrics.csv`` of every finished fine-tuning.

    Returns:
        A row per method, number of labels, fold, draw, step, case and class, with ``dice``, ``tp``, ``fp`` and ``fn``.
        The number of labels is ``labels``, a string: ``"2"`` or ``"all"``.

    Raises:
        FileNotFoundError: if nothing is finished.
    """
    tables = []
    for finished in sorted(Path(output_dir).glob("finetune/*/*/finished.json")):
        place = FOLDER.fullmatch(finished.parent.name)
        if place is None:
            continue
        table = read_metrics(finished.with_name("metrics.csv"))
        names = {"method": finished.parent.parent.name, "labels": place["labels"]}
        tables.append(table.assign(**names, fold=int(place["fold"]), draw=int(place["draw"])))
    if not tables:
        raise FileNotFoundError(f"no finished fine-tuning below {output_dir}; run the grid first.")
    return pd.concat(tables, ignore_index=True)


def comparable(results: pd.DataFrame) -> pd.DataFrame:
    """Keep, for each number of labels, the folds and draws that all methods found there have finished.

    A mean over others would compare subjects rather than methods.
    """
    finished = results.groupby(["labels", "fold", "draw"])["method"].transform("nunique")
    return results[finished == results.groupby("labels")["method"].transform("nunique")]


def at_step(results: pd.DataFrame, step: int | None = None) -> pd.DataFrame:
    """Return the rows of one training step, or by default of the last one of every run."""
    last = results.groupby(["method", "labels", "fold", "draw"])["step"].transform("max")
    found = results[results["step"] == (last if step is None else step)]
    if found.empty:
        raise ValueError(f"step must be one of {sorted(results['step'].unique())}, got {step}.")
    return found


def case_dice(results: pd.DataFrame) -> pd.DataFrame:
    """Return the mean Dice over the classes of every case; classes in neither truth nor prediction are left out."""
    keys = ["method", "labels", "fold", "draw", "step", "subject_id", "case_id"]
    return results.groupby(keys)["dice"].mean().reset_index()


def pooled_dice(results: pd.DataFrame) -> pd.DataFrame:
    """Return the Dice over all voxels of a fold, mean over the classes: the PCL reference's metric."""
    keys = ["method", "labels", "fold", "draw", "step"]
    counts = results.groupby([*keys, "class"], as_index=False)[["tp", "fp", "fn"]].sum()
    counts["dice"] = 2 * counts["tp"] / (2 * counts["tp"] + counts["fp"] + counts["fn"])
    return counts.groupby(keys)["dice"].mean().reset_index()
