import pytest
import torch
from ignite.engine import Engine

from medssl.data import SliceNumbers
from medssl.engine import LocateBoxes, PrepareContrastiveCrops


class Remembers(torch.nn.Module):
    """Boxes as the number of the epoch in which they were found."""

    def __init__(self):
        super().__init__()
        self.boxes, self.epoch, self.modes = torch.zeros(5, 4), 0, []

    def locate(self, images, samples):
        self.modes.append(self.training)
        self.boxes[samples] = images.flatten(1)[:, :1] + self.epoch


def test_boxes_are_found_anew_every_few_epochs_in_the_order_of_the_slices():
    network, seen = Remembers(), []
    slices = [{"image": torch.arange(3.0).view(3, 1, 1, 1)}, {"image": torch.arange(3.0, 5).view(2, 1, 1, 1)}]

    def step(engine, _):
        network.epoch = engine.state.epoch
        seen.append(network.boxes[:, 0].tolist())

    engine = Engine(step)
    engine.state.device = "cpu"
    LocateBoxes(network, slices, interval=2).attach(engine)
    engine.run([0], max_epochs=5)
    plain, first, second = [0.0] * 5, [2.0, 3.0, 4.0, 5.0, 6.0], [4.0, 5.0, 6.0, 7.0, 8.0]
    assert seen == [plain, plain, first, first, second]
    assert network.modes == [False] * 4
    assert network.training


def test_each_slice_is_cropped_around_its_own_box():
    network = Remembers()
    network.boxes[:] = torch.arange(5.0)[:, None]
    prepare = PrepareContrastiveCrops(
        lambda images, boxes: images + boxes[:, 0].view(-1, 1, 1, 1), network, SliceNumbers(["a", "b"], [2, 3])
    )
    batch = {"image": torch.zeros(2, 1, 2, 2), "case_id": ["b", "a"], "index": torch.tensor([2, 1])}
    prepared, target = prepare(batch, "cpu")
    assert target is None
    assert [view[:, 0, 0, 0].tolist() for view in prepared.values()] == [[4, 1], [4, 1]]


def test_refuses_an_interval_that_is_none():
    with pytest.raises(ValueError, match="interval must be at least 1 epoch, got 0"):
        LocateBoxes(Remembers(), [], 0)
