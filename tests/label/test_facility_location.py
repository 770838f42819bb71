from itertools import combinations, islice

import numpy as np
import pytest

from medssl.label import facility_location, outliers


@pytest.fixture
def similarity():
    points = np.random.default_rng(0).normal(size=(12, 3))
    unit = points / np.linalg.norm(points, axis=1, keepdims=True)
    return unit @ unit.T


def coverage(similarity, chosen):
    """The mean over the pool of how like the nearest chosen scan each one is."""
    return sum(max(similarity[i, j] for j in chosen) for i in range(len(similarity))) / len(similarity)


def test_each_scan_adds_most_to_those_before_it(similarity):
    chosen = []
    for place, gain in islice(facility_location(similarity), 6):
        best = max(coverage(similarity, [*chosen, other]) for other in range(12) if other not in chosen)
        assert coverage(similarity, [*chosen, place]) == pytest.approx(best)
        before = coverage(similarity, chosen) if chosen else similarity.min()
        assert gain == pytest.approx(best - before, abs=1e-8)
        chosen.append(place)


def test_the_order_is_within_the_bound_of_the_best_choice(similarity):
    chosen = [place for place, _ in islice(facility_location(similarity), 3)]
    best = max(coverage(similarity, three) for three in combinations(range(12), 3))
    lowest = similarity.min()
    assert coverage(similarity, chosen) - lowest >= (1 - 1 / np.e) * (best - lowest)


def test_every_scan_comes_once_and_what_is_annotated_never(similarity):
    assert sorted(place for place, _ in facility_location(similarity)) == list(range(12))
    assert {place for place, _ in facility_location(similarity, chosen=[3, 7])} == set(range(12)) - {3, 7}


def test_what_is_annotated_is_gone_on_from(similarity):
    first = [place for place, _ in islice(facility_location(similarity), 5)]
    rest = [place for place, _ in islice(facility_location(similarity, chosen=first[:2]), 3)]
    assert rest == first[2:]


def test_no_subject_has_a_second_scan_before_every_subject_has_one(similarity):
    subjects = ["a", "a", "a", "b", "b", "b", "c", "c", "c", "d", "d", "d"]
    order = [subjects[place] for place, _ in facility_location(similarity, subjects)]
    assert [sorted(order[start : start + 4]) for start in (0, 4, 8)] == [["a", "b", "c", "d"]] * 3
    after = [subjects[place] for place, _ in facility_location(similarity, subjects, chosen=[0])]
    assert sorted(after[:3]) == ["b", "c", "d"]


def test_outliers_come_after_all_others(similarity):
    order = [place for place, _ in facility_location(similarity, last=[2, 5])]
    assert set(order[-2:]) == {2, 5}


def test_equal_scans_come_in_their_order():
    assert [place for place, _ in facility_location(np.ones((4, 4)))] == [0, 1, 2, 3]


def test_uncertainty_alone_ranks_by_uncertainty(similarity):
    unsure = np.arange(12) / 12
    order = [place for place, _ in facility_location(similarity, uncertainty=unsure, weight=1.0)]
    assert order == list(range(11, -1, -1))
    alone = [place for place, _ in facility_location(similarity)]
    assert [place for place, _ in facility_location(similarity, uncertainty=unsure, weight=0.0)] == alone


def test_the_scan_that_is_like_no_other_is_the_outlier(similarity):
    points = np.vstack([np.tile([1.0, 0.0], (59, 1)), [[0.0, 1.0]]])
    points[:59, 1] = np.random.default_rng(0).normal(0, 0.1, 59)
    unit = points / np.linalg.norm(points, axis=1, keepdims=True)
    assert outliers(unit @ unit.T) == [59]
    assert outliers(similarity) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"subjects": ["a"]}, r"subjects N, got \(12, 12\) and 1"),
        ({"weight": 1.5, "uncertainty": np.ones(12)}, r"weight must lie in \[0, 1\] .* got 1.5"),
        ({"weight": 0.5}, "have an uncertainty of each scan"),
    ],
)
def test_what_does_not_fit_is_refused(options, message, similarity):
    with pytest.raises(ValueError, match=message):
        next(facility_location(similarity, **options))
