"""One bar for the whole run, with the terms of the loss and the time left."""

from typing import Any

from ignite.engine import Engine, Events
from tqdm.auto import tqdm

from medssl.engine.scalars import scalars


class Progress:
    """Show how far a training has come; ignite's own bar starts anew every epoch.

    Args:
        description: text in front of the bar.
        interval: iterations between updates of the terms; each update waits for the device.
    """

    def __init__(self, description: str = "training", interval: int = 10) -> None:
        self.description, self.interval = description, interval
        self.bar: Any = None

    def attach(self, engine: Engine) -> None:
        """Listen to a trainer."""
        engine.add_event_handler(Events.EPOCH_STARTED, self.start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self.step)
        engine.add_event_handler(Events.COMPLETED | Events.INTERRUPT, self.close)

    def start(self, engine: Engine) -> None:
        """Open the bar where the run stands, which after a resume is not zero."""
        if self.bar is None:
            total = engine.state.max_epochs * engine.state.epoch_length
            self.bar = tqdm(
                total=total, initial=engine.state.iteration, desc=self.description, unit="step", mininterval=1
            )

    def step(self, engine: Engine) -> None:
        """Count an iteration."""
        self.bar.update()
        if engine.state.iteration % self.interval == 0:
            self.bar.set_postfix({name: f"{value:.4g}" for name, value in scalars(engine).items()}, refresh=False)

    def close(self, engine: Engine) -> None:
        """Leave the bar as it is on the screen."""
        if self.bar is not None:
            self.bar.close()
