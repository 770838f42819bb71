"""What pre-training has made of the pixels: regions beside clusters of their embeddings."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from monai.transforms import CenterSpatialCrop, ScaleIntensity, SpatialPad
from scipy.cluster.vq import kmeans2
from skimage.color import label2rgb
from torch.nn.functional import interpolate, normalize

from medssl.data import Manifest, store_recipe
from medssl.data.slice_store import store_transform
from medssl.engine import network_of, read_receipt
from medssl.engine.overlays import save_figure
from medssl.networks import ResNetUNet, UNet, load_pretrained
from medssl.transforms import Superpixels


def plot_embeddings(
    checkpoint: str | Path,
    manifest: Manifest,
    file: str | Path,
    num_cases: int = 3,
    num_clusters: int = 8,
) -> Path:
    """Draw slices, the k-means clusters of their pixels' embeddings, and super-pixels between them (LRC, figure 3).

    A pixel's embedding is what the decoder gives it, or, of weights without a decoder, what all levels of the encoder
    give its place. Weights that were trained without super-pixels are drawn without.

    Args:
        checkpoint: of the pretrain or the finetune bundle.
        manifest: whose first cases are drawn, the slice in the middle of each.
        file: picture to write.
        num_cases: how many cases.
        num_clusters: k, of each slice by itself.

    Raises:
        ValueError: if the checkpoint is of another network than a U-Net of slices.
    """
    receipt = read_receipt(checkpoint)
    network = network_of(receipt, checkpoint).eval()
    decoded = any(name.startswith("decoder.") for name in load_pretrained(network, checkpoint))
    load = store_transform(store_recipe(receipt["spacing"], receipt["slice_axis"], receipt["window"]))
    every = manifest.training + manifest.unlabeled
    records = every[: max(0, num_cases)]
    if not records:
        raise ValueError(f"num_cases must name some of {len(every)} training and unlabelled cases, got {num_cases}.")
    superpixels = Superpixels(**receipt["superpixels"]) if receipt.get("superpixels") else None
    columns = 2 if superpixels is None else 3
    figure = Figure(figsize=(3 * columns, 3 * len(records)), layout="constrained")
    for record, row in zip(records, figure.subplots(len(records), columns, squeeze=False), strict=True):
        shown = middle_slice(load(record)["image"], receipt["image_size"], superpixels)
        vectors = embed_pixels(network, shown["image"], decoded).flatten(1).T.numpy()
        clusters = kmeans2(vectors, num_clusters, minit="++", seed=0)[1].reshape(shown["image"].shape[1:])
        grey = np.asarray(ScaleIntensity()(shown["image"])[0])
        panels = {record["case_id"]: grey}
        if "regions" in shown:
            panels["super-pixels"] = colour(np.asarray(shown["regions"][0]), grey)
        panels["k-means"] = colour(clusters, grey)
        for axes, (title, panel) in zip(row, panels.items(), strict=True):
            axes.imshow(panel, cmap="gray")
            axes.set_title(title, fontsize="small")
            axes.axis("off")
    return save_figure(figure, file)


@torch.no_grad()
def embed_pixels(network: UNet | ResNetUNet, image: torch.Tensor, decoded: bool) -> torch.Tensor:
    """Return the embedding of every pixel of ``image`` :math:`(1, H, W)`, of length 1: :math:`(D, H, W)`."""
    levels = network.encoder(image[None])
    if decoded:
        return normalize(network.decoder(levels), dim=1)[0]
    # Every level counts the same: the deep ones have many times the channels.
    size = list(image.shape[1:])
    alike = [interpolate(normalize(level, dim=1), size, mode="bilinear") for level in levels]
    return normalize(torch.cat(alike, dim=1), dim=1)[0]


def middle_slice(volume: Any, size: list[int], superpixels: Superpixels | None) -> dict[str, torch.Tensor]:
    """Return the middle of a volume as training sees it: ``image`` and any ``regions``, :math:`(1, H, W)`."""
    place = volume.shape[1] // 2
    maps = {"image": SpatialPad(size)(torch.as_tensor(volume)[:, place])}
    if superpixels is not None:
        scaled = torch.as_tensor(ScaleIntensity()(volume))  # the volume as a whole, as for training
        maps["regions"] = SpatialPad(size, constant_values=-1)(superpixels(scaled[:, place]))
    return {key: torch.as_tensor(CenterSpatialCrop(size)(padded)) for key, padded in maps.items()}


def colour(labels: np.ndarray, grey: np.ndarray) -> np.ndarray:
    """Return a slice with its regions in colour."""
    painted: np.ndarray = label2rgb(labels, grey, alpha=0.5, bg_label=-1).clip(0, 1)  # rounding may leave the range
    return painted
