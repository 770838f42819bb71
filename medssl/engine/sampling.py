"""Tell a sampler which epoch it draws."""

from typing import Protocol

from ignite.engine import Engine, Events


class HasEpoch(Protocol):
    """A sampler whose draws depend on the epoch."""

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that the next iteration draws."""


class SetEpoch:
    """Before every epoch, set it on a sampler: a resumed run draws what the uninterrupted one would have drawn.

    Args:
        sampler: of medssl, or torch's ``DistributedSampler``.
    """

    def __init__(self, sampler: HasEpoch) -> None:
        self.sampler = sampler

    def attach(self, engine: Engine) -> None:
        """Listen to a trainer."""
        engine.add_event_handler(Events.EPOCH_STARTED, lambda engine: self.sampler.set_epoch(engine.state.epoch))
