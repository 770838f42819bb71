"""Every scalar of a run, to TensorBoard and to one CSV file."""

from pathlib import Path
from typing import Any

import pandas as pd
import torch
from ignite.engine import Engine, Events
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from medssl.atomic import replace


def total_loss(output: Any, target: Any) -> Tensor:
    """Return what a trainer minimises: the entry ``"loss"`` of a method's output. It needs no target.

    Raises:
        TypeError: if the output is no dictionary with a scalar of that name.
    """
    loss = output.get("loss") if isinstance(output, dict) else output
    if not isinstance(output, dict) or not isinstance(loss, Tensor) or loss.numel() != 1:
        given = f"a dictionary of {sorted(output)}" if isinstance(output, dict) else type(output).__name__
        raise TypeError(f'a method must return a dictionary whose "loss" is a scalar tensor, got {given}.')
    return loss


def scalars(engine: Engine) -> dict[str, float]:
    """Return the scalar entries of an engine's output: the loss, and a method's terms where it has any.

    However many handlers ask, a step waits for the device once.
    """
    output = engine.state.output
    known = getattr(engine.state, "scalars", None)
    if known is not None and known[0] is output["loss"]:
        values: dict[str, float] = known[1]
        return values
    found = {"loss": output["loss"]}
    terms = output.get("pred")
    if isinstance(terms, dict):
        found |= terms
    numbers = {name: value for name, value in found.items() if isinstance(value, Tensor) and value.numel() == 1}
    together = torch.stack([value.detach().float().flatten()[0] for value in numbers.values()]).tolist()
    values = dict(zip(numbers, together, strict=True))
    engine.state.scalars = output["loss"], values
    return values


class ScalarLog:
    """Log the loss, its terms and the learning rate of every iteration.

    ``scalars.csv`` holds one row an iteration; it is written anew at the end of each epoch, and where a run is
    interrupted; rows beyond the point a run resumes from are dropped. TensorBoard reads the same folder.

    Args:
        folder: receives ``scalars.csv`` and the event files.
        optimizer: its learning rate is logged as ``lr``, those of further groups as ``lr_1`` and so on.
    """

    def __init__(self, folder: str | Path, optimizer: torch.optim.Optimizer) -> None:
        self.folder, self.optimizer = Path(folder), optimizer
        self.rows: list[dict[str, Any]] = []
        self.writer: SummaryWriter | None = None

    def attach(self, engine: Engine) -> None:
        """Listen to a trainer."""
        engine.add_event_handler(Events.EPOCH_STARTED, self.start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self.log)
        engine.add_event_handler(Events.EPOCH_COMPLETED | Events.INTERRUPT, self.write)
        engine.add_event_handler(Events.COMPLETED, self.close)

    def start(self, engine: Engine) -> None:
        """Take up the rows of the run that is resumed."""
        if self.writer is not None:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        file = self.folder / "scalars.csv"
        if engine.state.iteration > 0 and file.is_file():
            known = pd.read_csv(file)
            self.rows = known[known["iteration"] <= engine.state.iteration].to_dict("records")
        self.writer = SummaryWriter(str(self.folder), purge_step=engine.state.iteration + 1)

    def log(self, engine: Engine) -> None:
        """Take the scalars of this iteration."""
        rates = [group["lr"] for group in self.optimizer.param_groups]
        values = scalars(engine) | {f"lr_{n}" if n else "lr": rate for n, rate in enumerate(rates)}
        self.rows.append({"epoch": engine.state.epoch, "iteration": engine.state.iteration, **values})
        if self.writer is not None:
            for name, value in values.items():
                self.writer.add_scalar(name, value, engine.state.iteration)

    def write(self, engine: Engine) -> None:
        """Write what has come so far; a reader never sees half a file."""
        replace(self.folder / "scalars.csv", lambda file: pd.DataFrame(self.rows).to_csv(file, index=False))

    def close(self, engine: Engine) -> None:
        """Close TensorBoard's file."""
        if self.writer is not None:
            self.writer.close()
