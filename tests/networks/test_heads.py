import torch

from medssl.networks import Pointwise, linear_head


def test_a_pointwise_head_is_the_head_at_every_place_of_the_map():
    head, features = linear_head(3, 5), torch.randn(2, 3, 4, 6)
    embedded = Pointwise(head)(features)
    assert embedded.shape == (2, 5, 4, 6)
    torch.testing.assert_close(embedded[:, :, 1, 2], head(features[:, :, 1, 2]))


def test_a_pointwise_head_learns_the_weights_of_the_head_itself():
    head = linear_head(3, 5)
    Pointwise(head)(torch.randn(2, 3, 4)).sum().backward()
    assert head[-1].weight.grad.any()
