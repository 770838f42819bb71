"""Dice per case and pooled, from one table of counts."""

from pathlib import Path
from typing import Any

import pandas as pd
from ignite.engine import Engine, Events
from monai.metrics import get_confusion_matrix


class CaseMetrics:
    """Count, for every case and class, what was hit and missed, and write ``metrics.csv`` after each evaluation.

    The file has a row per case and class with ``dice``, the voxel counts ``tp``, ``fp`` and ``fn`` from which pooled
    Dice follows, and ``iteration``, the training step of the evaluated weights. Rows of earlier steps are kept: the
    file is the curve. A class that neither truth nor prediction holds has an empty ``dice``; a false alarm has 0.

    Args:
        file: CSV file to write.
        classes: names of the classes by label, background first.
        trainer_state: state of the trainer whose weights are evaluated; None for weights from a file, step 0.
    """

    def __init__(self, file: str | Path, classes: list[str], trainer_state: Any = None) -> None:
        self.file, self.classes, self.trainer_state = Path(file), classes, trainer_state
        self.rows: list[dict[str, Any]] = []

    def attach(self, engine: Engine) -> None:
        """Listen to an evaluator whose ``pred`` and ``label`` are one-hot, a list item a case."""
        engine.add_event_handler(Events.STARTED, lambda _: self.rows.clear())
        engine.add_event_handler(Events.ITERATION_COMPLETED, self.count)
        engine.add_event_handler(Events.COMPLETED, self.write)

    def count(self, engine: Engine) -> None:
        """Count the cases of this batch."""
        for batch, output in zip(engine.state.batch, engine.state.output, strict=True):
            matrix = get_confusion_matrix(output["pred"][None], output["label"][None], include_background=False)
            for name, (tp, fp, _, fn) in zip(self.classes[1:], matrix[0].long().tolist(), strict=True):
                size = 2 * tp + fp + fn
                case = {key: batch[key] for key in ("case_id", "subject_id") if key in batch}
                self.rows.append(
                    {**case, "class": name, "dice": 2 * tp / size if size else None, "tp": tp, "fp": fp, "fn": fn}
                )

    def write(self, engine: Engine) -> None:
        """Write this evaluation's rows after those of earlier steps, and log the mean."""
        step = self.trainer_state.iteration if self.trainer_state is not None else 0
        new = pd.DataFrame(self.rows)
        new.insert(0, "iteration", step)
        if self.file.is_file():
            known = pd.read_csv(self.file)
            new = pd.concat([known[known["iteration"] < step], new])
        self.file.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.file.with_suffix(".part")
        new.to_csv(temporary, index=False)
        temporary.replace(self.file)
        engine.logger.info("step %d: Dice per class %s", step, mean_dice(new[new["iteration"] == step]))


def mean_dice(rows: pd.DataFrame) -> dict[str, float]:
    """Mean per-case Dice of every class."""
    return {str(name): round(float(value), 4) for name, value in rows.groupby("class", sort=False)["dice"].mean().items()}
