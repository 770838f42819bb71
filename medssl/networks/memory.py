"""What contrastive methods remember of earlier batches, and of every sample."""

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
        pool_size: samples there are; a queue as long would hold an older key of every one. None does not ask.

    Raises:
        ValueError: if a size is below 1, the queue as long as the pool, or a batch longer than the queue.

    Reference:
        He et al., Momentum Contrast for Unsupervised Visual Representation Learning, CVPR 2020, arXiv:1911.05722.
    """

    keys: Tensor
    place: Tensor

    def __init__(self, size: int = 65536, dim: int = 128, pool_size: int | None = None) -> None:
        super().__init__()
        if size < 1 or dim < 1:
            raise ValueError(f"size and dim must be at least 1, got {size} and {dim}.")
        if pool_size is not None and size >= pool_size:
            raise ValueError(
                f"a queue of {size} keys of {pool_size} slices would hold every slice's own older key: give a "
                f"queue_size below {pool_size}, or a smaller batch, which must fit into it."
            )
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


class Bank(nn.Module):
    """A vector for every sample of a data set, which moves towards each new one; random directions at first.

    Its vectors are a buffer: they go into a checkpoint with the method and come back with it.

    Args:
        size: number of samples.
        dim: length of a vector.
        momentum: share of the old vector in the new one, .5 in PIRL.

    Reference:
        Misra, van der Maaten, Self-Supervised Learning of Pretext-Invariant Representations, CVPR 2020,
        arXiv:1912.01991.
    """

    vectors: Tensor

    def __init__(self, size: int, dim: int = 128, momentum: float = 0.5) -> None:
        super().__init__()
        if size < 1 or dim < 1:
            raise ValueError(f"size and dim must be at least 1, got {size} and {dim}.")
        if not 0 <= momentum < 1:
            raise ValueError(f"momentum must lie in [0, 1), got {momentum}; PIRL takes 0.5.")
        self.register_buffer("vectors", F.normalize(torch.randn(size, dim), dim=1))  # (N, D)
        self.momentum = momentum

    def draw(self, count: int, without: Tensor) -> Tensor:
        """Return ``count`` vectors, drawn with replacement from those of all samples but some."""
        if len(self.vectors) <= len(without):
            raise ValueError(
                f"a bank needs more than a batch of samples to draw others from, got {len(self.vectors)} and a batch "
                f"of {len(without)}; lower num_slices."
            )
        chances = torch.ones(len(self.vectors), device=without.device).index_fill_(0, without, 0.0)
        return self.vectors[torch.multinomial(chances, count, replacement=True)]

    @torch.no_grad()
    def update(self, samples: Tensor, vectors: Tensor) -> None:
        """Move the vectors of some samples :math:`(n)` towards new ones :math:`(n, D)`."""
        # Of a sample that comes several times the last vector counts, in each of its places: a GPU writes in any order.
        last = ((samples[:, None] == samples) * torch.arange(len(samples), device=samples.device)).argmax(dim=1)
        new = F.normalize(vectors.to(self.vectors.dtype), dim=1)[last]
        mixed = self.momentum * self.vectors[samples] + (1 - self.momentum) * new
        self.vectors.index_copy_(0, samples, F.normalize(mixed, dim=1))
