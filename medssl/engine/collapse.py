"""Notice when contrastive pre-training learns nothing."""

import logging
from collections import deque

from ignite.engine import Engine, Events

from medssl.engine.scalars import scalars

logger = logging.getLogger(__name__)


class CollapseMonitor:
    """Warn while a loss sits at the value it has when all embeddings are equal.

    A contrastive loss that stays there learns nothing, and its curve looks like one that has converged. The spread of
    the embeddings, 1 when they fill the sphere and 0 when they are one point, is what tells the two apart. Both must
    say collapse: the loss within a hundredth of the constant, or .01 where that is below 1, the spread below a tenth.

    Args:
        term: entry of the method's output that is watched.
        constant: its value when all embeddings are equal, such as ln(2n - 1) for NT-Xent over 2n views.
        patience: iterations in a row before the first warning, and between warnings.
    """

    def __init__(self, term: str, constant: float, patience: int = 100) -> None:
        self.term, self.constant, self.patience = term, constant, patience
        self.sitting: deque[bool] = deque(maxlen=patience)

    def attach(self, engine: Engine) -> None:
        """Listen to a trainer."""
        engine.add_event_handler(Events.ITERATION_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        """Look at this iteration."""
        values = scalars(engine)
        value, spread = values[self.term], values["spread"]
        near = abs(value - self.constant) <= 0.01 * max(1.0, abs(self.constant))
        self.sitting.append(near and spread < 0.1)
        if len(self.sitting) == self.patience and all(self.sitting):
            self.sitting.clear()
            logger.warning(
                "%s has stayed at its collapse constant %.4f for %d iterations (now %.4f) and the embeddings' spread "
                "is %.3f: nothing is being learnt. Lower the learning rate, or normalise the network's centre.",
                self.term,
                self.constant,
                self.patience,
                value,
                spread,
            )
