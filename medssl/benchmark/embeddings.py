"""What pre-training has made of the pixels: regions beside clusters of their embeddings."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from monai.transforms import CenterSpatialCrop, ScaleIntensity, SpatialPad
from scipy.cluster.vq import kmeans2
from skimage.color import label2rgb

from medssl.data import Manifest, store_recipe
from medssl.data.slice_store import store_transform
from medssl.engine import read_receipt
from medssl.engine.overlays import save_figure
from medssl.networks import UNet, load_pretrained


def plot_embeddings(
    checkpoint: str | Path,
    manifest: Manifest,
    file: str | Path,
    num_cases: int = 3,
    num_clusters: int = 8,
) -> Path:
    """Draw slices, their super-pixels, and the k-means clusters of their pixels' embeddings (LRC, figure 3).

    Args:
        checkpoint: of the pretrain bundle, of a method that trains the decoder of a U-Net too, such as LRC.
        manifest: whose first cases are drawn, the slice in the middle of each.
        file: picture to write.
        num_cases: how many cases.
        num_clusters: k, of each slice by itself.

    Raises:
        ValueError: if the checkpoint is of another network, or has no decoder.
    """
    receipt = read_receipt(checkpoint)
    if receipt.get("network") != "UNet":
        raise ValueError(f"embeddings are drawn of a UNet, {checkpoint} is of a {receipt.get('network')}.")
    network = UNet(None, width=receipt["width"], centre_norm=receipt["centre_norm"]).eval()
    if not any(name.startswith("decoder.") for name in load_pretrained(network, checkpoint)):
        raise ValueError(f"{checkpoint} holds no decoder, which gives pixels their embeddings; take one of LRC's.")
    if receipt.get("superpixels") is None:
        raise ValueError(f"{checkpoint} was pre-trained without super-pixels, which are drawn beside its embeddings.")
    contract = [receipt[name] for name in ("spacing", "slice_axis", "window", "superpixels")]
    load = store_transform(store_recipe(*contract))
    records = (manifest.training + manifest.unlabeled)[:num_cases]
    figure = Figure(figsize=(9, 3 * len(records)), layout="constrained")
    for record, row in zip(records, figure.subplots(len(records), 3, squeeze=False), strict=True):
        image, labels = middle_slice(load({"image": record["image"]}), receipt["image_size"])
        with torch.no_grad():
            embeddings = torch.nn.functional.normalize(network(image[None]), dim=1)[0]  # (D, H, W)
        vectors = embeddings.flatten(1).T.double().numpy()
        clusters = kmeans2(vectors, num_clusters, minit="++", seed=0)[1].reshape(image.shape[1:])
        grey = np.asarray(ScaleIntensity()(image)[0])
        panels = {record["case_id"]: grey, "super-pixels": colour(labels, grey), "k-means": colour(clusters, grey)}
        for axes, (title, panel) in zip(row, panels.items(), strict=True):
            axes.imshow(panel, cmap="gray")
            axes.set_title(title, fontsize="small")
            axes.axis("off")
    return save_figure(figure, file)


def middle_slice(data: Mapping[str, Any], size: list[int]) -> tuple[torch.Tensor, np.ndarray]:
    """Return the middle of a volume as pre-training sees it: image :math:`(1, H, W)`, regions :math:`(H, W)`."""
    place = data["image"].shape[1] // 2
    image, regions = (torch.as_tensor(data[key])[:, place] for key in ("image", "regions"))
    crop = CenterSpatialCrop(size)
    nowhere = SpatialPad(size, constant_values=-1)(regions)
    return torch.as_tensor(crop(SpatialPad(size)(image))), np.asarray(crop(nowhere)[0])


def colour(labels: np.ndarray, grey: np.ndarray) -> np.ndarray:
    """Return a slice with its regions in colour."""
    painted: np.ndarray = label2rgb(labels, grey, alpha=0.5, bg_label=-1).clip(0, 1)  # rounding may leave the range
    return painted
