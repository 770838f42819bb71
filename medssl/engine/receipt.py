"""What a checkpoint must say about itself, as JSON beside it."""

import json
import platform
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from medssl import __version__
from medssl.networks import ResNetUNet, UNet, load_pretrained

PACKAGES = ("torch", "monai", "numpy", "nibabel", "scikit-image")


def versions() -> dict[str, str]:
    """Return the versions that a run depends on."""
    return {"medssl": __version__, "python": platform.python_version(), **{name: version(name) for name in PACKAGES}}


def read_receipt(path: str | Path, bundle: str | None = None) -> dict[str, Any]:
    """Read the receipt of a checkpoint.

    Args:
        path: the checkpoint (``model.pt``) or the receipt itself (``model.json``).
        bundle: that must have written it, ``"pretrain"`` or ``"finetune"``; None for either.

    Raises:
        FileNotFoundError: if there is none, as the weights' spacing and intensities would have to be guessed; if there
            are no weights either; for a folder.
        ValueError: if another bundle has written it.
    """
    if Path(path).is_dir():
        raise FileNotFoundError(f"weights must be a file, got the folder {path}; give its {Path(path) / 'model.pt'}.")
    file = Path(path).with_suffix(".json")
    if not file.is_file() and not Path(path).is_file():
        raise FileNotFoundError(f"no weights at {path}; correct the path, or train the bundle first.")
    if not file.is_file():
        raise FileNotFoundError(
            f"no receipt {file} beside the weights: spacing, window and size of their images are not known. "
            f"Give a model.pt that training has written, and copy {file.name} together with it."
        )
    receipt: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    if bundle is not None and receipt.get("bundle") != bundle:
        raise ValueError(
            f"{path} must be a checkpoint of the {bundle} bundle, got one of {receipt.get('bundle')}; "
            "give that bundle's model.pt."
        )
    return receipt


def network_of(receipt: Mapping[str, Any], checkpoint: str | Path) -> UNet | ResNetUNet:
    """Return the network that a receipt names, for its weights to be loaded into.

    Args:
        receipt: of the checkpoint.
        checkpoint: for the error.

    Raises:
        ValueError: if it is another than a U-Net of slices, or weights that have seen no images and name no spacing.
    """
    if "spacing" not in receipt:
        raise ValueError(
            f"weights must say which images they take, {checkpoint} is of {receipt.get('method')}, which has seen "
            "none; give those of a pre-training."
        )
    classes = len(receipt["classes"]) if "classes" in receipt else None
    if receipt.get("spatial_dims", 2) == 2 and receipt.get("network") == "UNet":
        return UNet(classes, width=receipt["width"], centre_norm=receipt["centre_norm"])
    if receipt.get("spatial_dims", 2) == 2 and receipt.get("network") == "ResNetUNet":
        return ResNetUNet(classes)
    raise ValueError(
        f"weights must be of a UNet or a ResNetUNet of slices here, {checkpoint} is of a {receipt.get('network')} of "
        f"{receipt.get('spatial_dims', 2)} dimensions; of two branches give each one's pre-training."
    )


def trained_network(checkpoint: str | Path, bundle: str | None = None) -> tuple[UNet | ResNetUNet, dict[str, Any]]:
    """Return a U-Net of slices with the weights of a checkpoint, in evaluation mode, and the receipt.

    Args:
        checkpoint: of the pretrain or the finetune bundle; what it does not hold stays random.
        bundle: that must have written it; None for either.

    Raises:
        FileNotFoundError: if there are no weights or no receipt beside them.
        ValueError: if they are of another network or another bundle.
    """
    receipt = read_receipt(checkpoint, bundle)
    network = network_of(receipt, checkpoint)
    load_pretrained(network, checkpoint)
    return network.eval(), receipt


def read_first_stage(
    path: str | Path | None, method: str, manifest_sha256: str, fold: int | None, transductive: bool
) -> dict[str, Any]:
    """Read the receipt of the pre-training that another one goes on from, on the same images.

    Args:
        path: its checkpoint.
        method: that it must be of.
        manifest_sha256: of the second stage's manifest.
        fold: that the second stage leaves out.
        transductive: whether the second stage takes the test fold's images.

    Raises:
        ValueError: if no checkpoint is given, it is another method's, or it saw the images of another split: the
            receipt of the second could not tell whom its weights have learnt from.
    """
    if path is None:
        raise ValueError(
            "this pre-training goes on from another's weights: give model.pt of gcl_global.yaml as --pretrained."
        )
    first = read_receipt(path, "pretrain")
    wanted = {"method": method, "manifest_sha256": manifest_sha256, "fold": fold, "transductive": transductive}
    if others := {key: first.get(key) for key, value in wanted.items() if first.get(key) != value}:
        raise ValueError(f"{path} must be of {method} and the same images, {wanted}, it has {others}.")
    return first
