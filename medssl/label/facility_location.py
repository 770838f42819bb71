"""Which scans to annotate first: those that stand for the others."""

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]


def facility_location(
    similarity: Array,
    subjects: Sequence[str] | None = None,
    chosen: Sequence[int] = (),
    last: Collection[int] = (),
    uncertainty: Array | None = None,
    weight: float = 0.0,
) -> Iterator[tuple[int, float]]:
    r"""Yield the scans of a pool in the order in which each adds most to how well all of them are stood for.

    .. math:: f(S) = \frac{1}{N} \sum_i \max_{j \in S} s_{ij}, \qquad
        j^* = \operatorname*{argmax}_j \, (1 - w) \frac{f(S \cup \{j\}) - f(S)}{\max_k f(S \cup \{k\}) - f(S)} +
        w \frac{u_j}{\max_k u_k}

    f is submodular: without uncertainty the first k of the greedy order stand for the pool at least (1 - 1/e) times as
    well as the best k. The order is nested, the first k are the same however many are asked for, and holds no chance:
    equal gains go by place. A scan whose subject has one already waits until every subject has.

    Args:
        similarity: s :math:`(N, N)`, such as cosines.
        subjects: whose scan each one is; None takes every scan as a subject of its own.
        chosen: places of scans that are annotated already.
        last: places that come after all others, such as outliers, which stand for nothing.
        uncertainty: u :math:`(N)`, not negative; None leaves it out.
        weight: w, from 0 to 1.

    Yields:
        The place of a scan and what it adds to f.

    Raises:
        ValueError: if the sizes do not fit, or the weight is out of its range.

    Reference:
        Nemhauser, Wolsey, Fisher, An Analysis of Approximations for Maximizing Submodular Set Functions,
        Mathematical Programming 14, 1978.
    """
    count = len(similarity)
    names = list(range(count)) if subjects is None else list(subjects)
    if similarity.shape != (count, count) or len(names) != count:
        raise ValueError(f"similarity must be (N, N) and subjects N, got {similarity.shape} and {len(names)}.")
    if not 0 <= weight <= 1 or (weight > 0 and (uncertainty is None or len(uncertainty) != count)):
        raise ValueError(f"weight must lie in [0, 1] and have an uncertainty of each scan, got {weight}.")
    covered = similarity[list(chosen)].max(axis=0, initial=similarity.min())  # (N)
    taken = Counter(names[place] for place in chosen)
    done = set(chosen)
    left = [place for place in range(count) if place not in done]
    while left:
        turn = [(place in last, taken[names[place]]) for place in left]
        soonest = min(turn)
        eligible = [place for place, when in zip(left, turn, strict=True) if when == soonest]
        # Rounded: the last bits differ from machine to machine, the order must not.
        gains = np.maximum(similarity[eligible] - covered, 0).mean(axis=1).round(9)
        worth = (1 - weight) * share(gains)
        if uncertainty is not None:
            worth = worth + weight * share(uncertainty[eligible])
        best = int(worth.round(9).argmax())
        place = eligible[best]
        yield place, float(gains[best])
        covered = np.maximum(covered, similarity[place])
        taken[names[place]] += 1
        left.remove(place)


def share(values: Array) -> Array:
    """Return values in parts of their largest, zeros where that is zero."""
    return values / (values.max() or 1.0)


def outliers(similarity: Array, part: float = 0.02) -> list[int]:
    """Return the places of the least typical scans, those that are least like their nearest neighbours.

    Args:
        similarity: :math:`(N, N)`.
        part: of all scans, rounded down: of fewer than 50 none is.
    """
    count = len(similarity)
    neighbours = min(20, count // 2)
    if int(part * count) == 0 or neighbours == 0:
        return []
    others = np.where(np.eye(count, dtype=bool), -np.inf, similarity)
    typicality = np.partition(others, -neighbours, axis=1)[:, -neighbours:].mean(axis=1)
    return np.argsort(typicality, kind="stable")[: int(part * count)].tolist()
