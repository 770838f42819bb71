"""Dice per case and pooled, from one table of counts."""

from pathlib import Path
from typing import Any

import pandas as pd
from ignite.engine import Engine, Events
from monai.metrics import get_confusion_matrix
from torch import Tensor

from medssl.atomic import replace


class CaseMetrics:
    """Count, for every case and class, what was hit and missed, and write ``metrics.csv`` after each evaluation.

    The file has a row per case and class with ``dice`` and the voxel counts ``tp``, ``fp`` and ``fn`` from which pooled
    Dice follows. Evaluations during training add ``step``, the optimiser steps taken, and keep the rows of earlier
    ones: the file is the curve. A class that neither truth nor prediction holds has an empty ``dice``; a false alarm
    has 0, where MONAI's ``MeanDice`` leaves it out or counts the former as 1. A class that was not contoured in a case,
    by the batch's ``known``, is neither hit nor missed there. The mean over the cases of the mean over
    their classes is the evaluator's metric ``dice``.

    Args:
        file: CSV file to write.
        classes: names of the classes by label, background first.
        steps_per_epoch: of the training that is watched; None when weights from a file are evaluated.
    """

    def __init__(self, file: str | Path, classes: list[str], steps_per_epoch: int | None = None) -> None:
        self.file, self.classes, self.steps_per_epoch = Path(file), classes, steps_per_epoch
        self.rows: list[dict[str, Any]] = []
        self.scores: list[float] = []

    def attach(self, engine: Engine) -> None:
        """Listen to an evaluator whose ``pred`` and ``label`` are one-hot, a list item a case."""
        engine.add_event_handler(Events.STARTED, self.begin)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self.count)
        engine.add_event_handler(Events.COMPLETED, self.write)

    def begin(self, engine: Engine) -> None:
        """Forget the evaluation before."""
        self.rows, self.scores = [], []

    def count(self, engine: Engine) -> None:
        """Count the cases of this batch."""
        for batch, output in zip(engine.state.batch, engine.state.output, strict=True):
            counts = known_counts(batch, output)
            values = dice(counts)
            case = {key: batch[key] for key in ("case_id", "subject_id") if key in batch}
            self.scores.append(values.nanmean().item())
            for name, value, (tp, fp, fn) in zip(self.classes[1:], values.tolist(), counts.tolist(), strict=True):
                self.rows.append({**case, "class": name, "dice": value, "tp": tp, "fp": fp, "fn": fn})

    def write(self, engine: Engine) -> None:
        """Write this evaluation's rows after those of earlier ones, and log the means."""
        rows = pd.DataFrame(self.rows)
        engine.state.metrics["dice"] = float(pd.Series(self.scores).mean())
        engine.logger.info("mean Dice: %s", mean_dice(rows))
        if self.steps_per_epoch is not None:
            step = engine.state.epoch * self.steps_per_epoch  # MONAI gives the evaluator the trainer's epoch
            rows.insert(0, "step", step)
            if self.file.is_file():
                known = read_metrics(self.file)
                rows = pd.concat([known[known["step"] < step], rows])
        replace(self.file, lambda file: rows.to_csv(file, index=False))


def known_counts(batch: dict[str, Any], output: dict[str, Tensor]) -> Tensor:
    """Count the voxels of a case by :py:func:`count_voxels`; of classes that it does not know, none."""
    counts = count_voxels(output["pred"], output["label"])
    return counts * batch["known"][1:, None].to(counts.device) if "known" in batch else counts


def count_voxels(pred: Tensor, label: Tensor) -> Tensor:
    """Count what was hit, invented and missed.

    Args:
        pred: one-hot prediction :math:`(C, *)`.
        label: one-hot truth :math:`(C, *)`.

    Returns:
        Voxels :math:`(C - 1, 3)` of every class but the background: true positive, false positive, false negative.
    """
    matrix = get_confusion_matrix(pred[None], label[None], include_background=False)[0].long()
    return matrix[:, [0, 1, 3]]


def dice(counts: Tensor) -> Tensor:
    """Return the Dice of every class from :py:func:`count_voxels`; NaN where there is none to find and none found."""
    tp, fp, fn = counts.double().unbind(dim=-1)
    return 2 * tp / (2 * tp + fp + fn)


def read_metrics(file: str | Path) -> pd.DataFrame:
    """Read a ``metrics.csv``: names are text, whether they look like numbers or like nothing."""
    names = ("case_id", "subject_id", "class")
    return pd.read_csv(file, converters=dict.fromkeys(names, str))


def last_case_dice(file: str | Path) -> pd.DataFrame:
    """Return the Dice of every case at the last step of a ``metrics.csv``, the mean over its classes.

    Returns:
        A row per ``case_id`` and ``subject_id`` with its ``dice``, without classes in neither truth nor prediction.
    """
    metrics = read_metrics(file)
    last = metrics[metrics["step"] == metrics["step"].max()]
    return last.groupby(["case_id", "subject_id"], as_index=False)["dice"].mean()


def mean_dice(rows: pd.DataFrame) -> str:
    """Mean per-case Dice of every class, as one line of text."""
    means = rows.groupby("class", sort=False)["dice"].mean()
    return ", ".join(f"{name} {value:.3f}" for name, value in means.items())
