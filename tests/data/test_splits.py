import pytest
from hypothesis import given
from hypothesis import strategies as st

from medssl.data import Manifest, folds, label_draw, split

PATIENTS = [f"patient{number:03d}" for number in range(1, 101)]
# Labelled subjects of the PCL reference, the first of each fold: random.seed(1234), random.sample of the training keys.
REFERENCE = [[73, 18, 1, 15, 95, 6, 13, 16, 58, 39], [74, 20], [70, 16], [70, 18], [69, 20]]


def manifest(subjects, **kwargs):
    """Two labelled volumes a subject, and one unlabelled scan."""
    records = [
        {"case_id": f"{s}_{phase}", "subject_id": s, "image": f"{s}_{phase}", "label": f"{s}_{phase}_gt"}
        for s in subjects
        for phase in ("ed", "es")
    ]
    unlabeled = [{"case_id": "u", "subject_id": "u", "image": "u"}]
    return Manifest("test", {0: "b", 1: "o"}, "S", (None, 1, 1), {"zscore": True}, records, unlabeled=unlabeled, **kwargs)


def subjects(records):
    return {record["subject_id"] for record in records}


def test_the_pcl_references_own_split_comes_out():
    for held_out, labelled in zip(folds(PATIENTS), REFERENCE, strict=True):
        training = [patient for patient in PATIENTS if patient not in held_out]
        assert label_draw(training)[: len(labelled)] == [f"patient{number:03d}" for number in labelled]
    assert "patient074" in folds(PATIENTS)[4]
    assert "patient076" in folds(PATIENTS)[0]


@given(st.integers(5, 60), st.integers(0, 5))
def test_folds_part_the_subjects_evenly(count, seed):
    names = [str(number) for number in range(count)]
    parts = folds(names, 5, seed)
    assert sorted(name for part in parts for name in part) == sorted(names)
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


@given(st.integers(0, 4), st.integers(0, 4), st.integers(1, 20), st.integers(1, 20))
def test_fewer_labels_are_nested_in_more(fold, draw, few, many):
    data = manifest(PATIENTS[:30])
    few, many = sorted((few, many))
    fewer, more = (subjects(split(data, fold, number, draw).labelled) for number in (few, many))
    assert len(fewer) == few
    assert fewer <= more


@pytest.mark.parametrize("fold", range(5))
@pytest.mark.parametrize("transductive", [False, True])
def test_nobody_is_on_both_sides(fold, transductive):
    parts = split(manifest(PATIENTS), fold, 6, transductive=transductive)
    assert not subjects(parts.test) & subjects(parts.labelled + parts.held_out)
    assert not subjects(parts.labelled) & subjects(parts.held_out)
    assert (subjects(parts.test) <= subjects(parts.pretrain)) == transductive
    assert all("label" not in record for record in parts.pretrain)
    assert len(parts.labelled) == 12
    assert "u" in subjects(parts.pretrain)


def test_a_scan_under_two_names_is_never_learnt_from_where_it_is_tested():
    data = manifest(PATIENTS, duplicates=[["patient074", "patient076"]])
    for fold in range(5):
        parts = split(data, fold)
        both = {"patient074", "patient076"}
        assert not (subjects(parts.test) & both and subjects(parts.labelled + parts.pretrain) & both)


def test_draws_differ_and_repeat():
    data = manifest(PATIENTS)
    draws = [frozenset(subjects(split(data, 0, 2, draw).labelled)) for draw in range(4)]
    assert len(set(draws)) == 4
    assert draws[3] == subjects(split(data, 0, 2, 3).labelled)


def test_folds_of_the_manifest_win():
    data = manifest(["a", "b", "c"])
    for record in data.training:
        record["fold"] = 7 if record["subject_id"] == "b" else 8
    assert subjects(split(data, 7).test) == {"b"}
    with pytest.raises(ValueError, match=r"fold must be one of \[7, 8\], got 0"):
        split(data, 0)


def test_without_folds_the_manifests_own_sections_are_taken():
    test = [{"case_id": "t", "subject_id": "t", "image": "t", "label": "t_gt"}]
    parts = split(manifest(["a", "b"], validation=test), fold=None, num_labelled=1)
    assert parts.test == test
    assert subjects(parts.labelled + parts.held_out) == {"a", "b"}


def test_refuses_more_labels_than_there_are_subjects():
    with pytest.raises(ValueError, match="num_labelled must be 1 to 80, the training subjects of fold 0, got 81"):
        split(manifest(PATIENTS), 0, 81)
    with pytest.raises(ValueError, match="3 subjects make 2 to 3 folds, got 5"):
        folds(["a", "b", "c"])
