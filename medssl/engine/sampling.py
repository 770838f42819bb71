"""Tell a sampler which epoch it draws."""

from typing import Protocol

from ignite.engine import Engine, Events


class HasEpoch(Protocol):
    """A sampler whose draws depend on the epoch."""

    def set_epoch(self, epoch: int, done: int = 0) -> None:
        """Choose the epoch that the next iteration draws, and how many of its draws it leaves out."""


class SetEpoch:
    """Before every epoch, set it on a sampler: a resumed run draws what the uninterrupted one would have drawn.

    In the midst of an epoch, too: the draws of the steps that were made are left out.

    Args:
        sampler: of medssl.
    """

    def __init__(self, sampler: HasEpoch) -> None:
        self.sampler = sampler

    def attach(self, engine: Engine) -> None:
        """Listen to a trainer."""
        engine.add_event_handler(Events.EPOCH_STARTED, self.set)

    def set(self, engine: Engine) -> None:
        """Set the epoch that begins, or goes on."""
        loader = engine.state.dataloader
        steps = engine.state.iteration - (engine.state.epoch - 1) * len(loader)
        self.sampler.set_epoch(engine.state.epoch, steps * (loader.batch_size or 1))  # None: a draw is a batch
