"""Checkpoints that survive whatever happens while they are written."""

import json
import logging
import os
import shutil
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import torch
from ignite.engine import Engine, Events
from torch import Tensor

from medssl.engine.receipt import versions

logger = logging.getLogger(__name__)


class Stateful(Protocol):
    """Anything that can put its state into a dictionary and take it back."""

    def state_dict(self) -> dict[str, Any]:
        """Return the state."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> Any:
        """Take the state back."""


class Checkpoint:
    """Keep a run on disk: at epoch ends all that resuming takes, and the weights that others load.

    The folder receives ``last.pt`` (state of the run), ``model.pt`` (weights, a flat state_dict) and ``model.json``
    (the receipt). Each is written under another name, flushed and renamed, its predecessor kept as ``*.previous.*``:
    a kill at any moment leaves a readable checkpoint.

    Args:
        folder: of this run alone.
        state: what training changes, by name: network, optimizer, schedule.
        weights: called for the tensors of ``model.pt``.
        receipt: facts about the run that go into ``model.json``, beside versions, time and progress.
        resume: continue from ``last.pt`` where there is one; False refuses a folder that holds a run.
        interval: epochs between checkpoints; the last epoch is always written.
    """

    def __init__(
        self,
        folder: str | Path,
        state: Mapping[str, Stateful],
        weights: Callable[[], dict[str, Tensor]],
        receipt: Mapping[str, Any],
        resume: bool = True,
        interval: int = 1,
    ) -> None:
        self.folder, self.state, self.weights = Path(folder), dict(state), weights
        self.receipt, self.resume, self.interval = dict(receipt), resume, interval
        self.told: BaseException | None = None

    def attach(self, engine: Engine) -> None:
        """Listen to a trainer."""
        engine.add_event_handler(Events.STARTED, self.start)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self.epoch_end)
        engine.add_event_handler(Events.EXCEPTION_RAISED, self.interrupted)

    def start(self, engine: Engine) -> None:
        """Resume, if there is something to resume."""
        last = self.folder / "last.pt"
        if not (last.exists() or previous(last).exists()):
            return
        if not self.resume:
            raise FileExistsError(f"{self.folder} holds a run; continue it with resume true, or choose another folder.")
        saved = load_last(last)
        missing = self.state.keys() ^ saved["state"].keys()
        if missing:
            raise ValueError(
                f"{last} and this run do not keep the same things: {sorted(missing)}; was the recipe changed?"
            )
        if saved["epoch"] > engine.state.max_epochs:
            raise ValueError(
                f"{last} stands at epoch {saved['epoch']}, beyond max_epochs {engine.state.max_epochs}; "
                "raise it or start afresh."
            )
        for name, thing in self.state.items():
            thing.load_state_dict(saved["state"][name])
        torch.set_rng_state(saved["rng"])
        if torch.cuda.is_available() and saved["cuda_rng"]:
            torch.cuda.set_rng_state_all(saved["cuda_rng"])
        engine.state.epoch, engine.state.iteration = saved["epoch"], saved["iteration"]
        logger.info("resumed %s after epoch %d of %d.", self.folder, saved["epoch"], engine.state.max_epochs)

    def epoch_end(self, engine: Engine) -> None:
        """Write the checkpoint that is due."""
        if engine.state.epoch % self.interval == 0 or engine.state.epoch == engine.state.max_epochs:
            self.save(engine)

    def save(self, engine: Engine) -> None:
        """Write state, weights and receipt."""
        self.folder.mkdir(parents=True, exist_ok=True)
        progress = {"epoch": engine.state.epoch, "iteration": engine.state.iteration}
        cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
        everything = {
            "state": {name: thing.state_dict() for name, thing in self.state.items()},
            "rng": torch.get_rng_state(),
            "cuda_rng": cuda,
            **progress,
        }
        save_weights(self.folder / "model.pt", self.weights(), self.receipt | progress)
        replace(self.folder / "last.pt", lambda file: torch.save(everything, file))

    def interrupted(self, engine: Engine, error: BaseException) -> None:
        """Say what is left of the run, then let the error go on."""
        if error is not self.told and (self.folder / "last.pt").exists():  # ignite raises it twice
            self.told = error
            logger.error(
                "stopped in epoch %d; run the same command again to continue from %s.", engine.state.epoch, self.folder
            )
        raise error


def save_weights(path: Path, weights: dict[str, Tensor], receipt: Mapping[str, Any]) -> None:
    """Write a flat state_dict and the receipt beside it, atomically, keeping the previous ones."""
    facts = {
        **receipt,
        "tensors": len(weights),
        "versions": versions(),
        "written": datetime.now(UTC).isoformat("T", "seconds"),
    }
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}
    replace(path, lambda file: torch.save(contiguous, file))
    replace(
        path.with_suffix(".json"), lambda file: file.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    )


def replace(path: Path, write: Callable[[Path], Any], keep: bool = True) -> None:
    """Let ``write`` make a file beside ``path``, flush it to the disk, keep the old one, and rename it into place."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".part")
    try:
        write(temporary)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
    except OSError as error:
        temporary.unlink(missing_ok=True)
        free = shutil.disk_usage(path.parent).free
        raise OSError(
            f"could not write {path} ({free / 2**20:.0f} MiB free there); the previous one is intact."
        ) from error
    if keep and path.exists():
        older = previous(path)
        older.unlink(missing_ok=True)
        os.link(path, older)
    os.replace(temporary, path)


def previous(path: Path) -> Path:
    """Name of the checkpoint before this one: ``last.previous.pt``."""
    return path.with_name(f"{path.stem}.previous{path.suffix}")


def load_last(path: Path) -> dict[str, Any]:
    """Load the state of a run, or the one before it if the newest cannot be read."""
    for file in (path, previous(path)):
        if not file.exists():
            continue
        try:
            saved: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
            return saved
        except (RuntimeError, EOFError, OSError) as error:
            logger.warning("%s cannot be read (%s); trying the one before it.", file, error)
    raise ValueError(f"neither {path} nor {previous(path)} can be read; start afresh in another folder.")
