from collections import Counter

import numpy as np
import pytest

from medssl.data import SubjectPairSampler, VolumeSampler, balance


def test_a_batch_holds_one_volume_of_each_of_two_subjects():
    subjects = ["a", "a", "b", "c", "c"]
    sampler = SubjectPairSampler(subjects, num_batches=200, seed=1)
    batches = list(sampler)
    assert len(batches) == len(sampler) == 200
    assert all(subjects[first] != subjects[second] for (first, _), (second, _) in batches)
    drawn = Counter(subjects[index] for batch in batches for index, _ in batch)
    assert all(100 < drawn[subject] < 170 for subject in "abc")  # subjects, not volumes, are equally likely


def test_two_subjects_are_needed():
    with pytest.raises(ValueError, match=r"two different subjects, got \['a'\]"):
        SubjectPairSampler(["a", "a"], 1)


def test_without_weights_every_round_holds_each_volume_once():
    draws = [index for index, _ in VolumeSampler(4, num_draws=10, seed=0)]
    assert sorted(draws[:4]) == sorted(draws[4:8]) == [0, 1, 2, 3]
    assert len(draws) == 10


def test_weights_make_the_draw_one_from_the_pool_of_slices():
    draws = Counter(index for index, _ in VolumeSampler(2, num_draws=4000, weights=[10, 30]))
    assert draws[1] / 4000 == pytest.approx(0.75, abs=0.03)


@pytest.mark.parametrize(
    "make", [lambda: VolumeSampler(5, 20, seed=7), lambda: SubjectPairSampler("abcde", 20, seed=7)]
)
def test_the_epoch_and_the_seed_decide_every_draw(make):
    one, two = make(), make()
    assert list(one) == list(two)
    two.set_epoch(2)
    assert list(one) != list(two)
    one.set_epoch(2)
    assert list(one) == list(two)


def test_refuses_what_cannot_be_drawn():
    with pytest.raises(ValueError, match="there must be batches to draw, got 0; raise steps_per_epoch"):
        SubjectPairSampler(["a", "b"], 0)
    with pytest.raises(ValueError, match="got 0 and 5"):
        VolumeSampler(0, 5)
    with pytest.raises(ValueError, match="one for each of 3 volumes, got 2"):
        VolumeSampler(3, 5, weights=[1, 2])
    for weights in ([0, 0], [1, -1], [1, float("nan")]):
        with pytest.raises(ValueError, match="finite, not negative and not all 0"):
            VolumeSampler(2, 5, weights=weights)


def test_a_class_that_few_have_contoured_is_met_as_often_as_the_others():
    records = [{"known_classes": [1]}, {"known_classes": [1]}, {"known_classes": [1, 2]}, {"known_classes": [1]}]
    within, volumes = balance(records, [2, 1, 1])
    met = np.zeros(3)
    for record, weight in zip(records, volumes, strict=True):
        here = np.array(within) * [True, *(label in record["known_classes"] for label in (1, 2))]
        met += weight / sum(volumes) * here / here.sum()
    assert met == pytest.approx([0.5, 0.25, 0.25])
    assert balance([{}, {}], [2, 1]) == ([1.0, 0.5], [1.5, 1.5])
