import logging

import pytest
import torch
from ignite.engine import Events
from monai.engines.utils import IterationEvents

from medssl.engine import FeatureSpread
from medssl.methods.spread import spread


class Encoder(torch.nn.Module):
    """Features that differ from image to image by so much."""

    def __init__(self, difference):
        super().__init__()
        self.difference = difference

    def forward(self, image):
        return [image, 1 + self.difference * image * torch.linspace(-1, 1, 8).view(-1, 1, 1)]


@pytest.mark.parametrize(("difference", "warns"), [(1e-4, True), (1.0, False)])
def test_an_encoder_that_makes_the_same_of_every_image_is_told_of(make_trainer, caplog, difference, warns):
    images = torch.randn(6, 1, 1, 1).expand(-1, -1, 4, 4)
    encoder, trainer = Encoder(difference), make_trainer()
    FeatureSpread(encoder, patience=5).attach(trainer)
    for _ in range(10):
        features = encoder(images)[-1]
        trainer.state.output = {"loss": torch.tensor(1.0), "pred": {"loss": torch.tensor(1.0)}}
        trainer.fire_event(IterationEvents.FORWARD_COMPLETED)
        assert torch.equal(trainer.state.output["pred"]["feature_spread"], spread(features.flatten(2).mean(dim=2)))
        trainer.fire_event(Events.ITERATION_COMPLETED)
    assert sum(record.levelno == logging.WARNING for record in caplog.records) == (2 if warns else 0)
    assert ("has made all but the same of every image for 5 iterations" in caplog.text) == warns


def test_an_encoder_that_is_never_called_as_a_whole_is_not_judged(make_trainer):
    trainer = make_trainer()
    FeatureSpread(Encoder(0.0), patience=1).attach(trainer)
    trainer.state.output = {"loss": torch.tensor(1.0), "pred": {"loss": torch.tensor(1.0)}}
    trainer.fire_event(IterationEvents.FORWARD_COMPLETED)
    trainer.fire_event(Events.ITERATION_COMPLETED)
    assert trainer.state.output["pred"].keys() == {"loss"}
