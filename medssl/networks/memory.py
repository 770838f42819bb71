"""What contrastive methods remember of earlier batches."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Queue(nn.Module):
    """The keys of the last batches, first in, first out; random directions until it is full.

    Its content and place are buffers: they go into a checkpoint with the method and come back with it.

    Args:
        size: number of keys kept, 65,536 in MoCo, a twentieth of its images: the more, the more samples meet older keys
            of their own among the negatives.
        dim: length of a key.

    Reference:
        He et al., Momentum Contrast for Unsupervised Visual Representation Learning, CVPR 2020, arXiv:1911.05722.
    """

    keys: Tensor
    place: Tensor

    def __init__(self, size: int = 65536, dim: int = 128) -> None:
        super().__init__()
        if size < 1 or dim < 1:
            raise ValueError(f"size and dim must be at least 1, got {size} and {dim}.")
        self.register_buffer("keys", F.normalize(torch.randn(size, dim), dim=1))  # (K, D)
        self.register_buffer("place", torch.zeros((), dtype=torch.long))  # of the oldest key

    @torch.no_grad()
    def push(self, keys: Tensor) -> None:
        """Put keys :math:`(B, D)`, scaled to unit length, in the place of the oldest."""
        if len(keys) > len(self.keys):
            raise ValueError(f"a batch must fit into the queue, got {len(keys)} keys for {len(self.keys)} places.")
        places = (self.place + torch.arange(len(keys), device=keys.device)) % len(self.keys)
        self.keys.index_copy_(0, places, F.normalize(keys.to(self.keys.dtype), dim=1))
        self.place.add_(len(keys)).remainder_(len(self.keys))
