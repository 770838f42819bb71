"""Stop at the first loss that is no number, before it reaches the weights."""

import math
from typing import Any

from ignite.engine import Engine
from monai.engines.utils import IterationEvents

from medssl.engine.scalars import scalars


class NonFiniteGuard:
    """Raise at the first non-finite loss and name the cases of its batch.

    The check runs before the backward pass: the weights, and the last checkpoint, stay good.
    """

    def attach(self, engine: Engine) -> None:
        """Listen to a trainer."""
        engine.add_event_handler(IterationEvents.LOSS_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        """Check the loss of this iteration."""
        loss = scalars(engine)["loss"]
        if math.isfinite(loss):
            return
        raise FloatingPointError(
            f"the loss became {loss} at iteration {engine.state.iteration} (epoch {engine.state.epoch}) "
            f"in a batch of {', '.join(cases(engine.state.batch))}; look at these scans, or lower the learning rate. "
            "The last checkpoint is intact."
        )


def cases(batch: Any) -> list[str]:
    """Names of the cases in a batch, each once."""
    names = batch.get("case_id", ["unnamed cases"]) if isinstance(batch, dict) else ["unnamed cases"]
    return list(dict.fromkeys(map(str, names)))
