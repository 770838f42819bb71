"""The embedding of an image, which contrastive methods compare."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn


def pool(features: Sequence[Tensor]) -> Tensor:
    """Return the last of an encoder's features, averaged over the plane :math:`(n, C)`.

    Raises:
        TypeError: if the encoder has returned one tensor instead of a list of them.
    """
    if isinstance(features, Tensor):
        raise TypeError("an encoder must return a list of features, finest first, got one tensor; return [tensor].")
    return features[-1].flatten(2).mean(dim=2)


def embed(head: nn.Module, features: Sequence[Tensor]) -> Tensor:
    """Return a head's output :math:`(n, D)` for the pooled features of an encoder.

    Raises:
        ValueError: if one image alone trains: there is nothing to normalise it by or to tell it from.
    """
    pooled = pool(features)
    if head.training and len(pooled) < 2:
        raise ValueError(f"a batch must have 2 slices at least, got {len(pooled)}; raise num_slices.")
    embeddings: Tensor = head(pooled)
    return embeddings


def embed_views(encoder: nn.Module, head: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
    """Return the embeddings of both views :math:`(2n, D)`; each passes by itself, so that it is normalised alone."""
    return torch.cat([embed(head, encoder(batch[view])) for view in ("view_1", "view_2")])
