import pytest
import torch

from medssl.methods import Rotation
from medssl.networks import UNetEncoder, linear_head


def make_rotation():
    torch.manual_seed(0)
    return Rotation(UNetEncoder(width=2, centre_norm=True), linear_head(32, 4))


@pytest.mark.usefixtures("double")
def test_two_steps_equal_those_by_hand(make_batch, assert_two_steps_equal):
    data = make_batch()

    def quarter(image):
        """Counter-clockwise: what was the right edge is the upper one."""
        side = image.shape[-1]
        turned = torch.empty_like(image)
        for row in range(side):
            turned[..., row, :] = image[..., :, side - 1 - row]
        return turned

    def loss_by_hand(method):
        images = [data["view_1"]]
        for _ in range(3):
            images.append(quarter(images[-1]))
        logits = method.head(method.encoder(torch.cat(images))[-1].mean(dim=(2, 3)))
        total = sum(torch.log(logits[i].exp().sum()) - logits[i, i // 4] for i in range(16))
        return total / 16

    assert_two_steps_equal(make_rotation(), data, loss_by_hand)


def test_refuses_slices_that_are_not_square():
    with pytest.raises(ValueError, match=r"slices to turn must be square, got \(2, 1, 32, 48\)"):
        make_rotation()({"view_1": torch.zeros(2, 1, 32, 48)})
