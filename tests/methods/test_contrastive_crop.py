import pytest
import torch
from torch import nn

from medssl.methods import ContrastiveCrop


class Looks(nn.Module):
    """A method whose encoder gives the image itself, at half its size, as its last features."""

    def __init__(self):
        super().__init__()
        self.encoder = lambda images: [images, nn.functional.avg_pool2d(images, 2)]

    def forward(self, batch):
        return {"loss": batch["view_1"].sum()}


def test_a_box_spans_the_rows_and_columns_where_the_features_exceed_the_threshold():
    image = torch.zeros(2, 1, 16, 32)
    image[0, :, 4:8, 16:24] = 5.0
    image[1] = 3.0  # nothing stands out: all of it
    network = ContrastiveCrop(Looks(), num_slices=4, threshold=0.5)
    network.locate(image, torch.tensor([2, 0]))
    torch.testing.assert_close(network.boxes[2], torch.tensor([4 / 16, 16 / 32, 8 / 16, 24 / 32]))
    assert network.boxes[0].tolist() == [0, 0, 1, 1]
    assert not network.boxes[[1, 3]].any()


def test_boxes_do_not_depend_on_the_scale_of_the_features():
    image = torch.rand(3, 1, 16, 16) ** 4
    boxes = []
    for scaled in (image, 7 * image - 2):
        network = ContrastiveCrop(Looks(), 3)
        network.locate(scaled, torch.arange(3))
        boxes.append(network.boxes)
    torch.testing.assert_close(*boxes)


def test_the_method_is_trained_as_it_is():
    assert ContrastiveCrop(Looks(), 1)({"view_1": torch.ones(2)})["loss"] == 2


def test_refuses_what_finds_no_box():
    with pytest.raises(ValueError, match=r"threshold lie in \[0, 1\), got 3 and 1.0"):
        ContrastiveCrop(Looks(), 3, 1.0)
