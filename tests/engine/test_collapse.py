import logging
import math

import pytest
import torch

from medssl.engine import CollapseMonitor


def outputs(values, spread):
    for value in values:
        yield {"loss": torch.tensor(value), "pred": {"positional": torch.tensor(value), "spread": torch.tensor(spread)}}


def test_warns_of_collapse_to_zero_too(make_trainer, caplog):
    trainer = make_trainer()
    monitor = CollapseMonitor("positional", 0.0, patience=5)
    for trainer.state.output in outputs([0.004] * 5, 0.01):
        monitor(trainer)
    assert "collapse constant 0.0000 for 5 iterations" in caplog.text


@pytest.mark.parametrize(
    ("values", "spread", "warns"),
    [([math.log(31)] * 10, 0.01, True), ([math.log(31)] * 10, 0.9, False), ([3.0] * 10, 0.01, False)],
)
def test_warns_only_where_loss_and_spread_both_say_collapse(make_trainer, caplog, values, spread, warns):
    trainer = make_trainer()
    monitor = CollapseMonitor("positional", math.log(31), patience=5)
    for trainer.state.output in outputs(values, spread):
        monitor(trainer)
    assert ("collapse constant 3.4340 for 5 iterations" in caplog.text) == warns
    assert sum(record.levelno == logging.WARNING for record in caplog.records) == (2 if warns else 0)
