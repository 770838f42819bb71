import torch

from medssl.networks import Pointwise, linear_head, mlp_head


def test_a_pointwise_head_is_the_head_at_every_place_of_the_map():
    head, features = linear_head(3, 5), torch.randn(2, 3, 4, 6)
    embedded = Pointwise(head)(features)
    assert embedded.shape == (2, 5, 4, 6)
    torch.testing.assert_close(embedded[:, :, 1, 2], head(features[:, :, 1, 2]))


def test_a_pointwise_head_learns_the_weights_of_the_head_itself():
    head = linear_head(3, 5)
    Pointwise(head)(torch.randn(2, 3, 4)).sum().backward()
    assert head[-1].weight.grad.any()


def test_heads_of_moco_are_those_of_the_papers():
    """A layer of 2,048 to 128 in version 1, another of 2,048 before it in version 2."""
    assert sum(p.numel() for p in linear_head(2048, 128).parameters()) == 2048 * 128 + 128
    assert sum(p.numel() for p in mlp_head(2048, 128).parameters()) == 2048 * 2048 + 2048 + 2048 * 128 + 128
