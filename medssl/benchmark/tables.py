"""Tables as the papers print them, and the differences that they do not print."""

import numpy as np
import pandas as pd

from medssl.benchmark.results import at_step, case_dice, pooled_dice


def by_labels(labels: pd.Index) -> list[str]:
    """Sort numbers of labels as numbers, ``"all"`` last."""
    return sorted(labels, key=lambda label: float("inf") if label == "all" else int(label))


def fold_dice(results: pd.DataFrame, metric: str = "case") -> pd.DataFrame:
    """Return the mean over draws of every method, number of labels, step and fold.

    Args:
        results: from :py:func:`medssl.benchmark.read_results`.
        metric: ``"case"``, mean over the cases, or ``"pooled"``, over all voxels of the fold.
    """
    if metric not in ("case", "pooled"):
        raise ValueError(f"metric must be case or pooled, got {metric!r}.")
    dice = case_dice(results) if metric == "case" else pooled_dice(results)
    run = dice.groupby(["method", "labels", "step", "fold", "draw"])["dice"].mean()
    return run.groupby(["method", "labels", "step", "fold"]).mean().reset_index()


def mean_std_table(results: pd.DataFrame, metric: str = "case", step: int | None = None) -> pd.DataFrame:
    """Return ``0.723(.04)`` for every method (row) and number of labels (column): mean and deviation over the folds.

    Of a single fold it is ``0.723(-)``.
    """
    folds = fold_dice(at_step(results, step), metric).groupby(["method", "labels"])["dice"]
    cells = folds.agg(lambda dice: f"{dice.mean():.3f}({f'{dice.std():.2f}'.lstrip('0') if len(dice) > 1 else '-'})")
    table = cells.unstack("labels", fill_value="-")
    methods = list(dict.fromkeys(results["method"]))
    return table.loc[methods, by_labels(table.columns)]


def paired_differences(
    results: pd.DataFrame,
    baseline: str = "random",
    step: int | None = None,
    num_bootstrap: int = 10_000,
    seed: int = 0,
) -> pd.DataFrame:
    """Return each method's gain over a baseline on the same cases, folds and draws.

    The interval is a bootstrap over subjects: the volumes of one subject and its results under several draws move
    together, and count once.

    Returns:
        A row per method and number of labels: mean ``difference``, its 95 % interval ``low`` to ``high``, the share of
        subjects that are ``better``, and how many ``subjects`` there are.
    """
    dice = case_dice(at_step(results, step))
    keys = ["labels", "fold", "draw", "subject_id", "case_id"]
    wide = dice.pivot_table(index=keys, columns="method", values="dice")
    if baseline not in wide:
        raise ValueError(f"baseline must be one of {list(wide.columns)}, got {baseline!r}.")
    rng, rows = np.random.default_rng(seed), []
    for method in [name for name in dict.fromkeys(results["method"]) if name != baseline]:
        gains = (wide[method] - wide[baseline]).dropna().groupby(["labels", "subject_id"]).mean()
        for label in by_labels(gains.index.unique("labels")):
            gain = gains[label].to_numpy()
            low, high = bootstrap_interval(gain, rng, num_bootstrap)
            rows.append((method, label, gain.mean(), low, high, (gain > 0).mean(), len(gain)))
    return pd.DataFrame(rows, columns=["method", "labels", "difference", "low", "high", "better", "subjects"])


def bootstrap_interval(gains: np.ndarray, rng: np.random.Generator, num_bootstrap: int = 10_000) -> tuple[float, float]:
    """Return the 95 % bootstrap interval of the mean of independent gains."""
    drawn = gains[rng.integers(len(gains), size=(num_bootstrap, len(gains)))].mean(axis=1)
    low, high = np.quantile(drawn, [0.025, 0.975])
    return float(low), float(high)


def learning_curve(results: pd.DataFrame) -> pd.DataFrame:
    """Return the mean per-case Dice by step (column) of every number of labels and method (rows)."""
    return in_order(fold_dice(results).groupby(["labels", "method", "step"])["dice"].mean().unstack("step"), results)


def in_order(table: pd.DataFrame, results: pd.DataFrame) -> pd.DataFrame:
    """Sort rows by their levels: numbers of labels as numbers, methods as they come in the results."""
    known = {"labels": by_labels(table.index.unique("labels")), "method": list(dict.fromkeys(results["method"]))}
    return table.sort_index(key=lambda level: level.map(known[level.name].index) if level.name in known else level)


def to_markdown(table: pd.DataFrame, digits: int = 3) -> str:
    """Return a table as Markdown, its index as first columns."""
    flat = table.reset_index() if any(table.index.names) else table

    def cell(value: object) -> str:
        return f"{value:.{digits}f}" if isinstance(value, float) else str(value)

    head = [str(name) for name in flat.columns]
    lines = [head, ["---"] * len(head), *([cell(value) for value in row] for row in flat.itertuples(index=False))]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
