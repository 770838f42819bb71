"""Passing a batch through networks in parts, which batch normalisation then sees apart."""

from collections.abc import Callable

import torch
from torch import Tensor


def in_parts(
    forward: Callable[[Tensor], tuple[Tensor, ...]], images: Tensor, num_splits: int, shuffle: bool = False
) -> list[Tensor]:
    """Return what a forward pass makes of all images, in their order.

    Args:
        forward: images to tensors, the image along their first axis.
        images: :math:`(n, ...)`.
        num_splits: parts that pass one after the other.
        shuffle: fill the parts in an order of their own: a query and its key then have other company, by whose
            statistics they could be told.
    """
    order = torch.randperm(len(images), device=images.device) if shuffle else None
    given = images if order is None else images[order]
    made = [torch.cat(parts) for parts in zip(*(forward(part) for part in given.tensor_split(num_splits)), strict=True)]
    return made if order is None else [tensor[order.argsort()] for tensor in made]


def check_parts(num_images: int, num_splits: int) -> None:
    """Refuse parts of a batch that are too small to be normalised.

    Raises:
        ValueError: if a part would have less than two images.
    """
    if num_images < 2 * num_splits:
        raise ValueError(
            f"each of the {num_splits} parts of a batch needs two images, got a batch of {num_images}; lower "
            "num_splits or raise num_slices."
        )
