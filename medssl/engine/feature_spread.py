"""Notice when an encoder makes the same of every image, whatever its head and its loss say."""

import logging
from collections import deque
from collections.abc import Sequence

from ignite.engine import Engine, Events
from monai.engines.utils import IterationEvents
from torch import Tensor, nn

from medssl.engine.scalars import scalars
from medssl.methods.embed import pool
from medssl.methods.spread import spread

logger = logging.getLogger(__name__)


class FeatureSpread:
    """Log the spread of an encoder's last features as ``feature_spread``, and warn where it has collapsed.

    They are averaged over the plane. A head that normalises over the batch spreads even embeddings of features that
    are all but equal, and hides a collapse from :py:class:`CollapseMonitor`. Random U-Nets and ResNets have .1 to .3
    over slices of hearts, trained ones .4 to .5. What the encoder was called with last in a step is looked at: mostly
    the second view, of MoCo and DenseCL the last part of the first, of PIRL the tiles.

    Args:
        encoder: image to list of features, finest first.
        lowest: spread below which an encoder has collapsed; our choice.
        patience: iterations in a row before the first warning, and between warnings.
    """

    def __init__(self, encoder: nn.Module, lowest: float = 0.02, patience: int = 100) -> None:
        self.encoder, self.lowest, self.patience = encoder, lowest, patience
        self.sitting: deque[bool] = deque(maxlen=patience)
        self.seen: Tensor | None = None

    def attach(self, engine: Engine) -> None:
        """Listen to a trainer whose method returns a dictionary, and to the encoder."""
        self.encoder.register_forward_hook(self.look)
        engine.add_event_handler(IterationEvents.FORWARD_COMPLETED, self.tell)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self.judge)

    def look(self, encoder: nn.Module, inputs: tuple, features: Sequence[Tensor]) -> None:
        """Take the spread of a batch's features."""
        self.seen = spread(pool(features).detach())

    def tell(self, engine: Engine) -> None:
        """Add it to the method's output, where the encoder was called as a whole."""
        if self.seen is not None:
            engine.state.output["pred"]["feature_spread"] = self.seen

    def judge(self, engine: Engine) -> None:
        """Warn where features have been alike for long."""
        value = scalars(engine).get("feature_spread", 1.0)
        self.sitting.append(value < self.lowest)
        if len(self.sitting) == self.patience and all(self.sitting):
            self.sitting.clear()
            logger.warning(
                "the encoder has made all but the same of every image for %d iterations (spread of its features %.4f): "
                "it has collapsed. Lower the learning rate, or normalise the network's centre.",
                self.patience,
                value,
            )
