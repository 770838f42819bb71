"""Points of a replayed annotation, confirmed: networks that are fine-tuned on the scans that each order had by then."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor, as_completed
from pathlib import Path

import pandas as pd
from tqdm.auto import tqdm

from medssl.benchmark.run import Run, execute
from medssl.data import Manifest
from medssl.engine import read_receipt
from medssl.engine.case_metrics import last_case_dice
from medssl.resources import bundle_configs

Point = tuple[str, int, int, int]  # strategy, order, fold and number of annotated scans


def fine_tunings(
    results: pd.DataFrame,
    manifest: Manifest,
    checkpoint: str | Path,
    labels: Sequence[int],
    num_orders: int,
    overlays: Sequence[str],
    output_dir: str | Path,
) -> dict[Point, Run]:
    """List the fine-tunings that confirm a replay, by strategy, order, fold and number of annotated scans.

    Orders that had annotated the same scans by then share one.

    Args:
        results: from :py:func:`medssl.label.simulate`.
        manifest: of the data set.
        checkpoint: that it was replayed with, which they start from, at its spacing.
        labels: numbers of annotated scans.
        num_orders: how many of the random orders are confirmed.
        overlays: of the finetune bundle, names or paths.
        output_dir: folder for a folder each; what is finished there is not run again.

    Raises:
        ValueError: for a number of scans that was not replayed.
    """
    if unknown := set(labels) - set(results["labels"]):
        raise ValueError(f"{min(unknown)} scans were not replayed: give numbers up to {results['labels'].max()}.")
    receipt = read_receipt(checkpoint, "pretrain")
    start = {"pretrained": str(Path(checkpoint).absolute()), "spacing": receipt["spacing"]}
    configs = bundle_configs("finetune", overlays)
    found: dict[Point, Run] = {}
    annotated = defaultdict[tuple[str, int, int], list[str]](list)
    replayed = results.loc[results["order"] < num_orders, ["strategy", "order", "fold", "labels", "annotated"]]
    for strategy, order, fold, number, case in replayed.drop_duplicates().sort_values("labels").to_numpy():
        annotated[strategy, order, fold].append(case)
        if number in labels:
            cases = sorted(annotated[strategy, order, fold])
            name = hashlib.sha256(" ".join(cases).encode()).hexdigest()[:8]
            folder = Path(output_dir).absolute() / f"fold{fold}_{number}_{name}"
            options = {**start, "fold": fold, "labelled_cases": cases}
            found[strategy, order, fold, number] = Run("finetune", configs, options, manifest, folder)
    return found


def confirm(runs: Mapping[Point, Run], executor: Executor) -> pd.DataFrame:
    """Run the fine-tunings that are not finished, and read what all of them come to.

    Args:
        runs: from :py:func:`fine_tunings`.
        executor: of threads, since every run is a process of its own.

    Returns:
        A row per point and test case, in the columns of :py:func:`medssl.label.simulate`.

    Raises:
        RuntimeError: if one fails, with its error; those that are finished stay.
    """
    left = {run.folder: run for run in runs.values() if not run.finished}
    waiting = {executor.submit(execute, run): run for run in left.values()}
    try:
        for future in tqdm(as_completed(waiting), total=len(waiting), desc="fine-tuning", unit="run"):
            if error := future.exception():
                raise RuntimeError(f"{waiting[future].folder}/log.txt: {error}")
    finally:  # interrupted: the executor would still run what is queued
        for future in waiting:
            future.cancel()
    tables = []
    for (strategy, order, fold, labels), run in runs.items():
        dice = last_case_dice(run.folder / "metrics.csv")
        tables.append(dice.assign(strategy=strategy, order=order, fold=fold, labels=labels))
    return pd.concat(tables, ignore_index=True)
