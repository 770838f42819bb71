"""Keep the weights of the best evaluation, where a protocol chooses by one."""

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ignite.engine import Engine, Events
from torch import Tensor

from medssl.engine.checkpoint import save_weights
from medssl.engine.receipt import read_receipt


class BestWeights:
    """After each evaluation, keep the weights if its ``dice`` is the best so far, also across a resume.

    The receipt must say what was chosen on: choosing on the test fold flatters every number that follows.

    Args:
        file: receives the weights; the receipt beside it holds the ``score`` and the ``epoch``.
        weights: called for the tensors.
        receipt: facts about the run.
    """

    def __init__(self, file: str | Path, weights: Callable[[], dict[str, Tensor]], receipt: Mapping[str, Any]) -> None:
        self.file, self.weights, self.receipt = Path(file), weights, json.loads(json.dumps(dict(receipt)))

    def attach(self, engine: Engine) -> None:
        """Listen to an evaluator, after its :py:class:`CaseMetrics`."""
        engine.add_event_handler(Events.COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        """Keep the weights if they are the best."""
        score = float(engine.state.metrics["dice"])
        if not math.isfinite(score):
            return  # no class in any case: nothing was measured
        best = read_receipt(self.file) if self.file.with_suffix(".json").is_file() else {}
        mine = best.items() >= self.receipt.items()  # not those of another run that the folder has seen
        # An epoch that a resumed run repeats is judged again.
        if not mine or score > best["score"] or engine.state.epoch == best["epoch"]:
            save_weights(self.file, self.weights(), self.receipt | {"score": score, "epoch": engine.state.epoch})
