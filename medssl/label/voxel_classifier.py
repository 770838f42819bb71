"""A segmentation model that is fitted in milliseconds: frozen features, one Gaussian a class."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import grid_sample

BATCH = 16  # slices at a time


@dataclass(frozen=True)
class VoxelSample:
    """Voxels of a labelled scan, drawn class by class.

    Attributes:
        features: (S, D), all levels of a frozen encoder at each voxel.
        labels: (S).
        stands_for: (S), how many voxels of its class each one stands for.
        counts: (K), voxels of each class in the scan.
    """

    features: Tensor
    labels: Tensor
    stands_for: Tensor
    counts: Tensor


@torch.no_grad()
def sample_voxels(
    encoder: nn.Module, slices: Tensor, labels: Tensor, num_classes: int, size: int = 4096, seed: int = 0
) -> VoxelSample:
    """Draw voxels of a scan, half of them background and the others shared among the classes, with their features.

    Args:
        encoder: of slices, frozen.
        slices: :math:`(V, 1, H, W)`.
        labels: :math:`(V, H, W)` integers.
        num_classes: K.
        size: how many at most; of a class with fewer voxels than its share all are taken.
        seed: of the draw.
    """
    rng = np.random.default_rng(seed)
    flat = labels.flatten()
    shares = [size // 2] + [size // 2 // (num_classes - 1)] * (num_classes - 1)
    places, stands_for = [], []
    for label, share in enumerate(shares):
        (mine,) = np.nonzero(np.asarray(flat == label))
        taken = np.sort(rng.choice(mine, min(share, len(mine)), replace=False))
        places.append(taken)
        stands_for.append(np.full(len(taken), len(mine) / max(1, len(taken))))
    place = torch.as_tensor(np.concatenate(places))
    order = place.argsort()  # by slice
    place, weight = place[order], torch.as_tensor(np.concatenate(stands_for), dtype=torch.float32)[order]
    height, width = labels.shape[1:]
    number, rest = place // (height * width), place % (height * width)
    corner = torch.tensor([width, height])
    # Centres of pixels, in the coordinates of grid_sample, where -1 and 1 are the edges of the slice.
    position = (torch.stack([rest % width, rest // width], dim=1) + 0.5) / corner * 2 - 1  # (S, 2)
    found = []
    for start in range(0, len(slices), BATCH):
        levels = encoder(slices[start : start + BATCH])
        for offset in range(len(levels[0])):
            here = position[number == start + offset][None, None]  # (1, 1, n, 2)
            if here.shape[2]:
                vectors = [
                    grid_sample(level[offset, None], here, padding_mode="border", align_corners=False)[0, :, 0].T
                    for level in levels
                ]
                found.append(torch.cat(vectors, dim=1))
    counts = torch.bincount(flat.long(), minlength=num_classes)
    return VoxelSample(torch.cat(found), flat[place].long(), weight, counts)


class Moments:
    """What a classifier has to know of a scan; those of several scans add up.

    Args:
        sample: of the scan.
    """

    def __init__(self, sample: VoxelSample) -> None:
        features = sample.features.double()
        weighted = features * sample.stands_for[:, None].double()
        members = torch.nn.functional.one_hot(sample.labels, len(sample.counts)).double()
        self.counts = sample.counts.double()  # (K)
        self.sums = members.T @ weighted  # (K, D)
        self.products = features.T @ weighted  # (D, D)


class VoxelClassifier:
    r"""Linear discriminant analysis of voxels: a Gaussian a class, one covariance for all.

    .. math:: \log p(c \mid x) = x^T \Sigma^{-1} \mu_c - \tfrac{1}{2} \mu_c^T \Sigma^{-1} \mu_c + \log \pi_c + \dots

    Args:
        scans: moments of the labelled scans; classes that none of them holds are never predicted.
        shrinkage: part of the mean variance that is added to every feature's.
    """

    def __init__(self, scans: Sequence[Moments], shrinkage: float = 1e-3) -> None:
        counts = torch.stack([scan.counts for scan in scans]).sum(dim=0)
        seen = counts > 0
        means = torch.stack([scan.sums for scan in scans]).sum(dim=0) / counts.clamp(min=1)[:, None]  # (K, D)
        prior = counts / counts.sum()
        products = sum(scan.products for scan in scans) / counts.sum()
        covariance = products - (means * prior[:, None]).T @ means
        size = len(covariance)
        covariance = covariance + shrinkage * covariance.trace() / size * torch.eye(size, dtype=covariance.dtype)
        weights = torch.linalg.solve(covariance, means.T)  # (D, K)
        bias = prior.clamp(min=1e-12).log() - 0.5 * (means.T * weights).sum(dim=0)
        self.weights, self.bias = weights.float(), bias.where(seen, -torch.inf).float()

    def probabilities(self, features: Tensor) -> Tensor:
        """Return those of all classes :math:`(S, K)`."""
        return (features @ self.weights + self.bias).softmax(dim=1)


def sampled_dice(predicted: Tensor, sample: VoxelSample) -> Tensor:
    r"""Return the Dice of each class :math:`(K)` as a sample tells it, NaN where the scan does not hold the class.

    .. math:: D_c = \frac{2 M_{cc}}{\sum_j M_{cj} + \sum_k M_{kc}}

    with M the confusion matrix, every voxel counted for those that it stands for.
    """
    classes = len(sample.counts)
    cells = torch.bincount(sample.labels * classes + predicted, sample.stands_for.double(), minlength=classes**2)
    matrix = cells.view(classes, classes)
    dice = 2 * matrix.diagonal() / (matrix.sum(dim=0) + matrix.sum(dim=1))
    return dice.where(sample.counts > 0, torch.nan)
