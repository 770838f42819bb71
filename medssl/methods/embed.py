"""The embedding of an image, which contrastive methods compare."""

from collections.abc import Sequence

from torch import Tensor, nn


def embed(head: nn.Module, features: Sequence[Tensor]) -> Tensor:
    """Return a head's output :math:`(n, D)` for the last of an encoder's features, averaged over the plane."""
    embeddings: Tensor = head(features[-1].flatten(2).mean(dim=2))
    return embeddings
