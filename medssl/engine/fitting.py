"""Overlays that some methods alone can take."""

from torch import nn


def check_fits(overlay: str, method: nn.Module, *names: str) -> None:
    """Refuse an overlay whose views a method does not take, or takes for others than its own.

    Args:
        overlay: its name, for the message.
        method: that is trained.
        names: of the classes that it is made for.

    Raises:
        ValueError: if the method is none of them.
    """
    found = type(method).__name__
    if found not in names:
        raise ValueError(f"{overlay} is made for {', '.join(names)}, got {found}; leave it out, or list one of these.")
