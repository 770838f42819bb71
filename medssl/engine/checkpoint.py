"""Checkpoints that survive whatever happens while they are written."""

import json
import logging
import signal
import threading
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import torch
from filelock import FileLock, Timeout
from ignite.engine import Engine, Events
from torch import Tensor

from medssl.atomic import previous, replace
from medssl.engine.receipt import versions
from medssl.networks.weights import load_tensors

logger = logging.getLogger(__name__)


class Stateful(Protocol):
    """Anything that can put its state into a dictionary and take it back."""

    def state_dict(self) -> dict[str, Any]:
        """Return the state."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> Any:
        """Take the state back."""


class Checkpoint:
    """Keep a run on disk: at epoch ends, and at SIGTERM, all that resuming takes, and the weights that others load.

    The folder receives ``last.pt`` (state of the run), ``model.pt`` (weights, a flat state_dict), ``model.json`` (the
    receipt) and ``run.lock``: while the run lasts no other one may write there. Each is written under another name,
    flushed and renamed, its predecessor kept as ``*.previous.*``: a kill at any moment leaves a readable checkpoint. A
    run of another recipe is not resumed: what the receipts say, and the length of the run, must be the same.

    SIGTERM, by which clusters announce that time is up, lets the step be finished and kept; then Python exits with 143.
    Workers of the data loader must outlive it: :py:func:`leave_sigterm`.

    Args:
        folder: of this run alone.
        state: what training changes, by name: network, optimizer, schedule.
        weights: called for the tensors of ``model.pt``.
        receipt: facts about the run that go into ``model.json``, beside versions, time and progress; as JSON has them.
        resume: continue from ``last.pt`` where there is one; False refuses a folder that holds a run.
    """

    def __init__(
        self,
        folder: str | Path,
        state: Mapping[str, Stateful],
        weights: Callable[[], dict[str, Tensor]],
        receipt: Mapping[str, Any],
        resume: bool = True,
    ) -> None:
        if not isinstance(resume, bool):
            raise ValueError(f"resume must be True or False, got {resume!r}; on a command line write False.")
        self.folder, self.state, self.weights = Path(folder), dict(state), weights
        self.receipt, self.resume = json.loads(json.dumps(dict(receipt))), resume
        self.reported: BaseException | None = None
        self.accepted = self.stopping = False
        self.lock = FileLock(self.folder / "run.lock", timeout=0)
        self.before: Any = None  # what SIGTERM did

    def attach(self, engine: Engine) -> None:
        """Listen to a trainer."""
        engine.add_event_handler(Events.STARTED, self.start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self.stop)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self.save)
        engine.add_event_handler(Events.EXCEPTION_RAISED, self.interrupted)
        engine.add_event_handler(Events.COMPLETED, self.finish)

    def start(self, engine: Engine) -> None:
        """Lock the folder, and resume, if there is something to resume."""
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            self.lock.acquire()
        except Timeout as error:
            raise FileExistsError(
                f"another run is writing to {self.folder}; wait for it, or choose another folder."
            ) from error
        self.resume_from_last(engine)
        if threading.current_thread() is threading.main_thread():  # Python lets no other one listen
            self.before = signal.signal(signal.SIGTERM, self.remember)

    def resume_from_last(self, engine: Engine) -> None:
        """Take up the run that the folder holds."""
        last = self.folder / "last.pt"
        if not (last.exists() or previous(last).exists()):
            self.accepted = True
            return
        if not self.resume:
            raise FileExistsError(f"{self.folder} holds a run; continue it with resume true, or choose another folder.")
        saved = load_last(last)
        changed = differences(saved["recipe"], self.recipe(engine))
        if changed:
            raise ValueError(
                f"{self.folder} holds a run of another recipe: {changed}. "
                "Give it its old recipe, or choose another folder."
            )
        for name, thing in self.state.items():
            thing.load_state_dict(saved["state"][name])
        torch.set_rng_state(saved["rng"])
        if torch.cuda.is_available() and saved["cuda_rng"]:
            torch.cuda.set_rng_state_all(saved["cuda_rng"][: torch.cuda.device_count()])
        engine.state.epoch, engine.state.iteration = saved["epoch"], saved["iteration"]
        self.accepted = True
        length = engine.state.max_epochs * len(engine.state.dataloader)
        logger.info("resumed %s after step %d of %d.", self.folder, saved["iteration"], length)

    def remember(self, *_: Any) -> None:
        """Take SIGTERM down; another one does what it did before."""
        self.stopping = True
        signal.signal(signal.SIGTERM, self.before)

    def stop(self, engine: Engine) -> None:
        """Where SIGTERM came, keep the step and exit; an epoch that is through is kept as always first."""
        if self.stopping and engine.state.iteration % len(engine.state.dataloader):
            self.save(engine)

    def finish(self, engine: Engine) -> None:
        """Let others have the folder."""
        self.let_go()
        logger.info("weights and receipt: %s", self.folder)

    def let_go(self) -> None:
        """Unlock the folder and stop listening."""
        self.lock.release()
        if self.before is not None:
            signal.signal(signal.SIGTERM, self.before)
            self.before = None

    def recipe(self, engine: Engine) -> dict[str, Any]:
        """Return what two runs must share to be one: a schedule of another length is another run."""
        length = {"max_epochs": engine.state.max_epochs, "steps_per_epoch": len(engine.state.dataloader)}
        return {**self.receipt, **length, "state": sorted(self.state)}

    def save(self, engine: Engine) -> None:
        """Write state, weights and receipt; exit where SIGTERM came."""
        steps = engine.state.iteration
        progress = {"epoch": steps // len(engine.state.dataloader), "iteration": steps}
        everything = {
            "state": {name: thing.state_dict() for name, thing in self.state.items()},
            "recipe": self.recipe(engine),
            "rng": torch.get_rng_state(),
            "cuda_rng": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
            **progress,
        }
        save_weights(self.folder / "model.pt", self.weights(), self.receipt | progress)
        replace(self.folder / "last.pt", lambda file: torch.save(everything, file), keep=True)
        if self.stopping:
            engine.fire_event(Events.INTERRUPT)
            raise SystemExit(128 + signal.SIGTERM)

    def interrupted(self, engine: Engine, error: BaseException) -> None:
        """Say what is left of the run, then let the error go on."""
        self.let_go()
        # Reported once, though ignite raises it twice; a run that was refused is not continued by its command.
        if self.accepted and error is not self.reported and (self.folder / "last.pt").exists():
            self.reported = error
            logger.error(
                "stopped in epoch %d; run the same command again to continue from %s.", engine.state.epoch, self.folder
            )
        raise error


def leave_sigterm(worker: int) -> None:
    """Let the worker of a ``DataLoader`` pass SIGTERM over, which many schedulers send to all processes of a job.

    Args:
        worker: its number, as ``worker_init_fn`` is given it.
    """
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def save_weights(path: str | Path, weights: dict[str, Tensor], receipt: Mapping[str, Any]) -> None:
    """Write a flat state_dict and the receipt beside it, atomically, keeping the previous ones."""
    path = Path(path)
    written = datetime.now(UTC).isoformat("T", "seconds")
    facts = json.dumps({**receipt, "tensors": len(weights), "versions": versions(), "written": written}, indent=1)
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}
    replace(path, lambda file: torch.save(contiguous, file), keep=True)
    replace(path.with_suffix(".json"), lambda file: file.write_text(facts + "\n", encoding="utf-8"), keep=True)


def load_last(path: Path) -> dict[str, Any]:
    """Load the state of a run, or the one before it if the newest cannot be read."""
    for file in (path, previous(path)):
        if not file.exists():
            continue
        try:
            saved: dict[str, Any] = load_tensors(file)
            return saved
        except ValueError as error:
            logger.warning("%s Trying the one before it.", error)
    raise ValueError(f"neither {path} nor {previous(path)} can be read; start afresh in another folder.")


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """Write what differs between two recipes, the method first: ``fold was 0, is 1``."""
    keys = [key for key in old.keys() | new.keys() if old.get(key) != new.get(key)]
    return ", ".join(
        f"{key} was {shortened(old.get(key))}, is {shortened(new.get(key))}"
        for key in sorted(keys, key=lambda key: (key != "method", key))
    )


def shortened(value: Any) -> str:
    """Write a value, the middle of a long one left out."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:50]} ... {text[-20:]}"
