"""Points of a replayed annotation, confirmed: networks that are fine-tuned on the scans that each order had by then."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor, as_completed
from pathlib import Path

import pandas as pd
from tqdm.auto import tqdm

from medssl.benchmark.grid import bundle_configs
from medssl.benchmark.results import at_step, case_dice, read_results, run_folder
from medssl.benchmark.run import Run, execute
from medssl.data import Manifest
from medssl.engine import read_receipt


def fine_tunings(
    results: pd.DataFrame,
    manifest: Manifest,
    checkpoint: str | Path,
    labels: Sequence[int],
    num_orders: int,
    overlays: Sequence[str],
    output_dir: str | Path,
) -> list[Run]:
    """List the fine-tunings that confirm a replay, one per order, fold and number of annotated scans.

    Args:
        results: from :py:func:`medssl.label.simulate`.
        manifest: of the data set.
        checkpoint: that it was replayed with, which they start from, at its spacing.
        labels: numbers of annotated scans.
        num_orders: how many of the random orders are confirmed.
        overlays: of the finetune bundle, names or paths.
        output_dir: folder for ``finetune/ORDER/m..._fold..._draw0``; what is finished there is not run again.

    Raises:
        ValueError: for a number of scans that was not replayed.
    """
    if unknown := set(labels) - set(results["labels"]):
        raise ValueError(f"{min(unknown)} scans were not replayed: give numbers up to {results['labels'].max()}.")
    receipt = read_receipt(checkpoint, "pretrain")
    configs = bundle_configs("finetune", overlays)
    start = {"pretrained": str(Path(checkpoint).absolute()), "spacing": receipt["spacing"]}
    listed = []
    annotated = results.drop_duplicates(["strategy", "order", "fold", "labels"]).sort_values("labels")
    for (order, strategy, fold), rows in annotated.groupby(["order", "strategy", "fold"]):
        if order >= num_orders:
            continue
        for number in labels:
            cases = rows.loc[rows["labels"] <= number, "annotated"].tolist()
            folder = run_folder(Path(output_dir).absolute(), f"{strategy}-{order}", str(number), fold, draw=0)
            options = {**start, "fold": int(fold), "labelled_cases": cases}
            listed.append(Run("finetune", configs, options, manifest, folder))
    return listed


def confirm(runs: Sequence[Run], executor: Executor) -> None:
    """Run the fine-tunings that are not finished.

    Args:
        runs: from :py:func:`fine_tunings`.
        executor: of threads, since every run is a process of its own.

    Raises:
        RuntimeError: if one fails, with its error; those that are finished stay.
    """
    waiting = {executor.submit(execute, run): run for run in runs if not run.finished}
    try:
        for future in tqdm(as_completed(waiting), total=len(waiting), desc="confirming", unit="run"):
            if error := future.exception():
                raise RuntimeError(f"{waiting[future].folder}/log.txt: {error}")
    finally:
        for future in waiting:
            future.cancel()


def confirmed(output_dir: str | Path) -> pd.DataFrame:
    """Read the finished fine-tunings, in the columns of :py:func:`medssl.label.simulate`.

    Raises:
        FileNotFoundError: if none is finished.
    """
    cases = case_dice(at_step(read_results(output_dir)))
    names = cases["method"].str.rsplit("-", n=1, expand=True)
    return cases.assign(strategy=names[0], order=names[1].astype(int), labels=cases["labels"].astype(int))[
        ["strategy", "order", "fold", "labels", "case_id", "subject_id", "dice"]
    ]
