"""Image sizes that a network can take."""

from collections.abc import Sequence

from torch import nn


def check_sides(size: list[int], multiple: int) -> None:
    """Refuse an image size whose halves, quarters and so on do not come out even.

    Raises:
        ValueError: if a side is no multiple of ``multiple``.
    """
    for side in size:
        if side % multiple != 0:
            fits = side // multiple * multiple + multiple
            raise ValueError(
                f"every side of the image must be a multiple of {multiple}, got {side}; pad or crop it, to {fits}."
            )


def check_size(network: nn.Module, *sizes: Sequence[int]) -> None:
    """Refuse image sizes that a network cannot take, before any data are loaded.

    Args:
        network: whose encoders of ours say by ``spatial_dims`` and ``multiple`` what they take; others take any size.
        sizes: of the images, without batch and channel.

    Raises:
        ValueError: if there are more sides or fewer, or one is no such multiple.
    """
    takes = [(getattr(m, "spatial_dims", 0), getattr(m, "multiple", 0)) for m in network.modules()]
    for spatial_dims, multiple in (taken for taken in takes if all(taken)):
        for size in sizes:
            if len(size) != spatial_dims:
                raise ValueError(
                    f"an image must have {spatial_dims} sides for this network, got {list(size)}; an overlay that is "
                    "listed later may have overwritten them: small.yaml goes before those of volumes."
                )
            check_sides(list(size), multiple)
