"""Weights that travel from pre-training to fine-tuning: exact names, nothing left out in silence."""

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

logger = logging.getLogger(__name__)


def part_state(network: nn.Module, parts: Sequence[str]) -> dict[str, Tensor]:
    """Return the tensors of some parts of a network, under the network's own names.

    Args:
        network: the network that fine-tuning will use.
        parts: names of its children, such as ``["encoder"]``.

    Raises:
        ValueError: if the network has no such child.
    """
    return part_of(network.state_dict(), parts, type(network).__name__)


def part_of(state: dict[str, Tensor], parts: Sequence[str], owner: str) -> dict[str, Tensor]:
    """Return the tensors of some parts; ``owner`` names what has them, for the error where it has not."""
    for part in parts:
        if not any(name.startswith(part + ".") for name in state):
            raise ValueError(f"{owner} has no part {part!r}; it has {children(state)}.")
    return {name: tensor for name, tensor in state.items() if name.split(".")[0] in parts}


def load_tensors(path: Path) -> Any:
    """Read a file of tensors and plain values, which can run no code.

    Raises:
        ValueError: if it is not such a file, or cannot be read to its end.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # of another kind of file the unpickler raises whatever its bytes lead to
        # From None: torch advises to load without weights_only, which lets a file run code.
        raise ValueError(f"{path} is no readable checkpoint of weights alone ({type(error).__name__}).") from None


def load_pretrained(network: nn.Module, path: str | Path, parts: Sequence[str] | None = None) -> list[str]:
    """Load a checkpoint into the parts of a network that it holds, and say what was taken.

    A checkpoint is a partial ``state_dict`` of the network under the network's own names. Every tensor in it must find
    its place, and a part that is touched must be touched whole: weights that half fit are refused.

    Args:
        network: receives the tensors, in place.
        path: file written by pre-training; read with ``weights_only``.
        parts: of the checkpoint that are taken, such as ``["encoder"]``; None takes all.

    Returns:
        Names of the tensors taken.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if a name has no place, a shape differs, a part is incomplete or not in the file.
    """
    path = Path(path)
    if path.is_dir():
        raise FileNotFoundError(f"weights must be a file, got the folder {path}; give {path / 'model.pt'}.")
    if not path.is_file():
        raise FileNotFoundError(
            f"no pre-trained weights at {path}; run the pretrain bundle first, or correct the path."
        )
    given = load_tensors(path)
    if not isinstance(given, dict) or not all(isinstance(tensor, Tensor) for tensor in given.values()):
        raise ValueError(
            f"{path} must hold a flat state_dict of tensors, it does not; a run's weights are its model.pt, last.pt is "
            "what it continues from."
        )
    if parts is not None:
        given = part_of(given, parts, str(path))
    own = network.state_dict()
    problems = [f"{name} has no place" for name in given if name not in own]
    problems += [
        f"{name} is {tuple(tensor.shape)} here, {tuple(own[name].shape)} in the network"
        for name, tensor in given.items()
        if name in own and tensor.shape != own[name].shape
    ]
    touched = {name.split(".")[0] for name in given if name in own}
    problems += [
        f"{name} is missing, though {name.split('.')[0]} is not"
        for name in own
        if name.split(".")[0] in touched and name not in given
    ]
    if problems or not given:
        shown = "; ".join(problems[:3]) + (f"; and {len(problems) - 3} more" if len(problems) > 3 else "")
        raise ValueError(
            f"{path} does not fit {type(network).__name__}: {shown or 'it is empty'}. The network has {children(own)}, "
            f"the file {children(given)}: build the network that the weights are of{described(path)}."
        )
    network.load_state_dict(own | given)
    receipt = receipt_of(path)
    made = receipt.get("method", "fine-tuned" if receipt.get("bundle") == "finetune" else "no known method")
    took = len(given), len(own), path, made, ", ".join(sorted(touched))
    logger.info("took %d of %d tensors from %s (%s): all of %s.", *took)
    return list(given)


def receipt_of(path: Path) -> dict[str, Any]:
    """Return the receipt beside weights; nothing where there is none."""
    file = path.with_suffix(".json")
    try:
        return dict(json.loads(file.read_text(encoding="utf-8"))) if file.is_file() else {}
    except ValueError:  # damaged: what is wrong with the weights is worth more
        return {}


def described(path: Path) -> str:
    """Return what the receipt beside weights says of their network; nothing where there is none."""
    receipt = receipt_of(path)
    facts = [
        f"{key} {receipt[key]}"
        for key in ("network", "spatial_dims", "width", "centre_norm", "local_width", "vit")
        if receipt.get(key) is not None
    ]
    return f", by their receipt {', '.join(facts)}; list the overlays of their training" if facts else ""


def children(state: dict[str, Tensor]) -> str:
    """Count tensors by top-level name: ``encoder (40), head (1)``."""
    names = [name.split(".")[0] for name in state]
    return ", ".join(f"{name} ({names.count(name)})" for name in dict.fromkeys(names)) or "nothing"
