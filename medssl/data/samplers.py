"""Which volumes make a batch, and the seed that decides everything random about each."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import numpy as np
from torch.utils.data import Sampler

Draw = tuple[int, int]  # (index in the data set, seed of this draw's random transforms)


class VolumeSampler(Sampler[Draw]):
    """Draw volumes for one epoch after another; every draw is a function of (seed, epoch, position) alone.

    Without weights the volumes come in shuffled rounds, each once a round. With weights they are drawn with
    replacement: weighted by its number of slices, a volume followed by a uniform slice is a uniform draw from the pool
    of all slices.

    Args:
        num_volumes: volumes in the data set.
        num_draws: draws an epoch, whatever the number of volumes: runs on 2 and on 10 subjects take equal steps.
        seed: of the whole run.
        weights: one non-negative number a volume, or None.

    Raises:
        ValueError: if there is no volume or nothing to draw, or the weights do not fit.
    """

    def __init__(self, num_volumes: int, num_draws: int, seed: int = 0, weights: Sequence[float] | None = None) -> None:
        if num_volumes < 1 or num_draws < 1:
            raise ValueError(
                f"there must be volumes to draw and draws to make, got {num_volumes} and {num_draws}; raise "
                "num_slices or steps_per_epoch where no draw is left."
            )
        if weights is not None and len(weights) != num_volumes:
            raise ValueError(f"weights must be one for each of {num_volumes} volumes, got {len(weights)}.")
        if weights is not None and not (min(weights) >= 0 < sum(weights) < float("inf")):
            raise ValueError(f"weights must be finite, not negative and not all 0, got {list(weights)}.")
        self.num_volumes, self.num_draws, self.seed, self.weights = num_volumes, num_draws, seed, weights
        self.epoch, self.done = 1, 0

    def set_epoch(self, epoch: int, done: int = 0) -> None:
        """Choose the epoch that the next iteration draws, counted from 1, but for its first ``done`` draws."""
        self.epoch, self.done = epoch, done

    def __len__(self) -> int:
        return self.num_draws

    def __iter__(self) -> Iterator[Draw]:
        rng = np.random.default_rng((self.seed, self.epoch))
        if self.weights is None:
            rounds = -(-self.num_draws // self.num_volumes)
            volumes = np.concatenate([rng.permutation(self.num_volumes) for _ in range(rounds)])[: self.num_draws]
        else:
            share = np.asarray(self.weights, dtype=float)
            volumes = rng.choice(self.num_volumes, self.num_draws, p=share / share.sum())
        draws = zip(volumes.tolist(), rng.integers(2**32, size=self.num_draws).tolist(), strict=True)
        yield from islice(draws, self.done, None)


def balance(records: Sequence[Mapping[str, Any]], ratios: Sequence[float]) -> tuple[list[float], list[float]]:
    """Return how to draw so that a class is met as often as its ratio says, however few records have it contoured.

    Args:
        records: of the volumes; ``known_classes`` where not all classes were contoured.
        ratios: how often each class is to be met, background first.

    Returns:
        The ratios of the classes within a volume, for MONAI's ``RandCropByLabelClassesd``, and the weights of the
        volumes, for :py:class:`VolumeSampler`.
    """
    every = range(len(ratios))
    known = [{0, *record.get("known_classes", every)} for record in records]
    within = [ratios[label] / max(1, sum(label in classes for classes in known)) for label in every]
    return within, [sum(within[label] for label in classes) for classes in known]


class SubjectPairSampler(Sampler[list[Draw]]):
    """Make each batch of one volume of each of two different subjects (SAL, section 2).

    Args:
        subjects: subject of each volume of the data set, in its order.
        num_batches: batches an epoch.
        seed: of the whole run.

    Raises:
        ValueError: if there are fewer than two subjects, or nothing to draw.
    """

    def __init__(self, subjects: Sequence[str], num_batches: int, seed: int = 0) -> None:
        names = list(dict.fromkeys(subjects))
        if len(names) < 2:
            raise ValueError(f"a batch takes two different subjects, got {names}; add scans of another subject.")
        if num_batches < 1:
            raise ValueError(f"there must be batches to draw, got {num_batches}; raise steps_per_epoch.")
        self.volumes = [[i for i, subject in enumerate(subjects) if subject == name] for name in names]
        self.num_batches, self.seed = num_batches, seed
        self.epoch, self.done = 1, 0

    def set_epoch(self, epoch: int, done: int = 0) -> None:
        """Choose the epoch that the next iteration draws, counted from 1, but for its first ``done`` batches."""
        self.epoch, self.done = epoch, done

    def __len__(self) -> int:
        return self.num_batches

    def __iter__(self) -> Iterator[list[Draw]]:
        yield from islice(self.batches(), self.done, None)

    def batches(self) -> Iterator[list[Draw]]:
        """Yield all batches of the epoch."""
        rng = np.random.default_rng((self.seed, self.epoch))
        for _ in range(self.num_batches):
            pair = rng.choice(len(self.volumes), 2, replace=False)
            yield [(int(rng.choice(self.volumes[subject])), int(rng.integers(2**32))) for subject in pair]
