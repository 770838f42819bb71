"""How unsure a trained network is of the organs in a scan."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

import torch
from monai.inferers import SliceInferer
from torch import Tensor
from tqdm.auto import tqdm

from medssl.atomic import replace
from medssl.data import store_recipe
from medssl.data.slice_store import store_transform
from medssl.engine import trained_network
from medssl.label.scan_embeddings import stamp_of


def organ_uncertainty(probabilities: Tensor, least: float = 0.05, stands_for: Tensor | None = None) -> float:
    r"""Return how unsure a segmentation is where it sees an organ or might see one, from 0 to 1.

    .. math:: U = \frac{1}{|C|} \sum_{c \in C} \frac{1}{|R_c|} \sum_{v \in R_c} h(p_c(v)),
        \qquad R_c = \{v : p_c(v) \geq \epsilon\}

    with h the entropy of a coin, in bits, and C the organs with any such voxel. It is an organ and the band around it
    that count: the volume of the background and of the organs, and their number, do not enter. Where nothing is seen
    at all it is 0.

    Args:
        probabilities: p :math:`(K, *)`, background first, that sum to 1 over the classes.
        least: :math:`\epsilon`.
        stands_for: how many voxels each one stands for, where they are a sample; None for all of them.

    Raises:
        ValueError: if they are no probabilities, such as label ids or logits.
    """
    if probabilities.ndim < 2 or not torch.allclose(probabilities.sum(dim=0), torch.ones(()), atol=1e-3):
        raise ValueError(
            f"probabilities must be (K, *) and sum to 1 over the classes, got {tuple(probabilities.shape)}; give the "
            "softmax, not label ids."
        )
    organs = probabilities[1:].flatten(1).float()  # (K - 1, voxels)
    entropy = -(torch.xlogy(organs, organs) + torch.xlogy(1 - organs, 1 - organs)) / torch.log(torch.tensor(2.0))
    seen = (organs >= least).any(dim=1)
    near = (organs >= least) * (1.0 if stands_for is None else stands_for.flatten())
    means = (entropy * near).sum(dim=1) / near.sum(dim=1).clamp(min=torch.finfo(near.dtype).tiny)
    return float(means[seen].mean()) if seen.any() else 0.0


def uncertainties(checkpoint: str | Path, records: Sequence[Mapping[str, Any]], folder: str | Path) -> Iterator[float]:
    """Yield the uncertainty of each scan, each one segmented once.

    Args:
        checkpoint: of the finetune bundle, of slices.
        records: of a manifest.
        folder: for a file per scan; a scan is segmented again where it or the weights have changed.

    Raises:
        FileNotFoundError: if there are no weights or no receipt beside them.
        ValueError: if they are no fine-tuned U-Net of slices.
        medssl.readers.ScanError: if a scan cannot be read.
    """
    network, receipt = trained_network(checkpoint, "finetune")
    weights = hashlib.sha256(Path(checkpoint).read_bytes()).hexdigest()
    load = store_transform(store_recipe(receipt["spacing"], receipt["slice_axis"], receipt["window"]))
    infer = SliceInferer(roi_size=receipt["image_size"], sw_batch_size=16, spatial_dim=0)
    for record in tqdm(records, desc="segmenting", unit="scan"):
        file = Path(folder) / (quote(record["case_id"], safe="") + ".json")
        stamp = stamp_of(record, weights)
        known = read_json(file)
        if known.get("stamp") != stamp:
            with torch.no_grad():
                logits = infer(torch.as_tensor(load(dict(record))["image"])[None], network)
            known = {"stamp": stamp, "uncertainty": organ_uncertainty(torch.as_tensor(logits)[0].softmax(dim=0))}
            replace(file, partial(Path.write_text, data=json.dumps(known), encoding="utf-8"))
        yield float(known["uncertainty"])


def read_json(file: Path) -> dict[str, Any]:
    """Return what was written, nothing where there is none, or what is there is damaged: it is found again."""
    try:
        return dict(json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return {}
