import pytest
from hypothesis import given
from hypothesis import strategies as st

from medssl.data import Manifest, folds, label_draw, pretrain_records, split
from medssl.data.splits import fold_subjects, with_duplicates

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
    kwargs.setdefault("unlabeled", unlabeled)
    return Manifest("test", {0: "b", 1: "o"}, "S", (None, 1, 1), {"zscore": True}, records, **kwargs)


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
    data = manifest(PATIENTS)
    parts, pretrain = split(data, fold, 6), pretrain_records(data, fold, transductive)
    assert not subjects(parts.test) & subjects(parts.labelled + parts.held_out)
    assert not subjects(parts.labelled) & subjects(parts.held_out)
    assert (subjects(parts.test) <= subjects(pretrain)) == transductive
    assert all("label" not in record for record in pretrain)
    assert len(parts.labelled) == 12
    assert "u" in subjects(pretrain)


def test_a_scan_under_two_names_is_never_learnt_from_where_it_is_tested():
    data = manifest(PATIENTS, duplicates=[["patient074", "patient076"]])
    for fold in range(5):
        parts, pretrain = split(data, fold), pretrain_records(data, fold)
        both = {"patient074", "patient076"}
        assert not (subjects(parts.test) & both and subjects(parts.labelled + pretrain) & both)


def test_unlabelled_scans_of_a_tested_subject_are_not_learnt_from():
    unlabeled = [{"case_id": s, "subject_id": s, "image": s} for s in ("patient074", "patient076", "patient001")]
    data = manifest(PATIENTS, unlabeled=unlabeled, duplicates=[["patient074", "patient076"]])
    for fold in (0, 4):
        seen = {record["case_id"] for record in pretrain_records(data, fold)}
        assert not seen & {"patient074", "patient076"}
        assert "patient001" in seen


def test_transductive_pre_training_sees_the_same_images_whatever_the_fold():
    data = manifest(PATIENTS, duplicates=[["patient074", "patient076"]])
    first, *others = (pretrain_records(data, fold, transductive=True) for fold in range(5))
    assert len(first) == 201
    assert all(other == first for other in others)


def test_a_twin_leaves_the_rest_of_the_draw_as_it_was():
    """Patient 76 is tested in fold 0: its twin, 74, is passed over, the others keep the reference's order."""
    data = manifest(PATIENTS, duplicates=[["patient074", "patient076"]])
    drawn = subjects(split(data, 0, 79).labelled)
    reference = label_draw([patient for patient in PATIENTS if patient not in folds(PATIENTS)[0]])
    assert drawn == set(reference) - {"patient074"}
    assert subjects(split(data, 0, 10).labelled) == set(reference[:10])
    with pytest.raises(ValueError, match=r"num_labelled must be 1 to 79.* None takes all of them"):
        split(data, 0, 80)


def test_the_manifests_own_order_is_draw_0():
    names = PATIENTS[:10]
    order = {0: sorted(set(names) - set(folds(names)[0]), reverse=True)}
    data = manifest(names, labelled_order=order)
    assert subjects(split(data, 0, 3).labelled) == set(order[0][:3])
    assert subjects(split(data, 0, 3, draw=1).labelled) == subjects(split(manifest(names), 0, 3, draw=1).labelled)
    assert subjects(split(data, 1, 3).labelled) == subjects(split(manifest(names), 1, 3).labelled)


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


def test_weights_are_not_chosen_on_duplicates_of_whom_they_learnt_from():
    data = manifest(["a", "b", "c", "d", "e"], duplicates=[["a", "b"], ["b", "c"]])
    assert with_duplicates({"a"}, data.duplicates) == {"a", "b", "c"}  # groups that overlap are one
    for draw in range(9):
        parts = split(data, 0, 1, draw)
        assert not with_duplicates(subjects(parts.labelled), data.duplicates) & subjects(parts.held_out)


def test_the_manifests_own_test_subjects_and_their_twins_are_barred_too():
    test = [{"case_id": s, "subject_id": s, "image": s, "label": s} for s in ("b", "t")]
    data = manifest(["a", "b", "c"], test=test, duplicates=[["c", "t"]])
    parts = split(data, fold=None)
    assert subjects(parts.labelled) == {"a"}
    assert subjects(pretrain_records(data, fold=None)) == {"a", "u"}
    assert subjects(pretrain_records(data, fold=None, transductive=True)) == {"a", "b", "c", "t", "u"}


def test_refuses_to_test_on_nothing():
    with pytest.raises(ValueError, match="test has no labelled record in test or validation: move one there"):
        split(manifest(["a", "b"], test=[{"case_id": "t", "subject_id": "t", "image": "t"}]), fold=None)


def test_refuses_more_labels_than_there_are_subjects():
    with pytest.raises(ValueError, match="num_labelled must be 1 to 80, the training subjects of fold 0, got 81"):
        split(manifest(PATIENTS), 0, 81)
    with pytest.raises(ValueError, match=r"num_labelled must be 1 to 80, .*got 'two'; None takes all of them"):
        split(manifest(PATIENTS), 0, "two")
    with pytest.raises(
        ValueError, match="3 subjects cannot be dealt into 5 folds; add subjects, give every training record"
    ):
        folds(["a", "b", "c"])


def test_cases_may_be_named_in_place_of_a_draw():
    named = split(manifest(PATIENTS), 0, labelled_cases=["patient004_es", "patient001_ed"])
    assert [record["case_id"] for record in named.labelled] == ["patient001_ed", "patient004_es"]
    assert named.test == split(manifest(PATIENTS), 0).test
    left = {record["subject_id"] for record in named.held_out}
    assert len(left) == 78
    assert not left & {"patient001", "patient004"}


def test_cases_that_are_not_to_be_learnt_from_are_refused():
    tested = split(manifest(PATIENTS), 0).test[0]["case_id"]
    with pytest.raises(ValueError, match=f"of the training subjects of fold 0, such as .*; got {tested}"):
        split(manifest(PATIENTS), 0, labelled_cases=[tested])
    with pytest.raises(ValueError, match=r"labelled_cases must be ids of cases .* got none"):
        split(manifest(PATIENTS), 0, labelled_cases=[])
    with pytest.raises(ValueError, match="in place of a draw; leave num_labelled"):
        split(manifest(PATIENTS), 0, 2, labelled_cases=["patient001_ed"])


def test_pretraining_needs_no_folds_where_it_takes_every_image():
    unlabeled = [{"case_id": str(n), "subject_id": str(n), "image": str(n), "phase": "x"} for n in range(7)]
    images = pretrain_records(manifest(["a"], unlabeled=unlabeled), fold=None, transductive=True)
    assert [record["case_id"] for record in images] == ["a_ed", "a_es", *"0123456"]
    assert {frozenset(record) for record in images} == {frozenset({"case_id", "subject_id", "image"})}


def test_pretraining_may_take_the_unlabelled_alone():
    unlabeled = [{"case_id": str(n), "subject_id": str(n), "image": str(n)} for n in range(3)]
    data = manifest(["a", "b"], unlabeled=unlabeled)
    images = pretrain_records(data, fold=None, transductive=True, sections=["unlabeled"])
    assert [record["case_id"] for record in images] == ["0", "1", "2"]
    with pytest.raises(ValueError, match=r"sections must be among training, .*, got unlabelled"):
        pretrain_records(data, sections=["unlabelled"])
    with pytest.raises(ValueError, match="no image to pre-train on in test"):
        pretrain_records(data, transductive=True, sections=["test"])


def test_records_say_which_classes_were_contoured_only_where_some_were_not():
    data = manifest(["a", "b", "c", "d", "e"])
    for record in data.training:
        record["known_classes"] = [] if record["subject_id"] == "a" else [1]
    parts = split(data, 0)
    marked = {r["subject_id"] for r in parts.labelled + parts.test if "known_classes" in r}
    assert marked == {"a"}


def test_a_class_that_no_labelled_subject_had_contoured_is_learnt_as_absent(caplog):
    data = manifest(["a", "b", "c", "d", "e"])
    data.labels[2] = "spleen"
    for record in data.training:
        record["known_classes"] = [1, 2] if record["subject_id"] == "a" else [1]
    (fold,) = (n for n, held in fold_subjects(data).items() if "a" in held)
    parts = split(data, fold)
    assert all(record["known_classes"] == [1, 2] for record in parts.labelled)
    assert "none of the labelled subjects has contours of spleen: it is learnt as background" in caplog.text
    parts = split(data, (fold + 1) % 5)  # a has all classes, and no list of them
    assert {r["subject_id"]: r.get("known_classes") for r in parts.labelled if r["subject_id"] == "a"} == {"a": None}
    assert all(r["known_classes"] == [1] for r in parts.labelled if r["subject_id"] != "a")


def test_there_must_be_subjects_to_choose_weights_by():
    data = manifest(PATIENTS)
    assert subjects(split(data, 0, 78).selection) == subjects(split(data, 0, 78).held_out)
    with pytest.raises(ValueError, match="none is left to choose by; lower num_labelled"):
        _ = split(data, 0).selection


def test_a_word_is_not_taken_for_true():
    with pytest.raises(
        ValueError, match="transductive must be True or False, got 'false'; on a command line write False"
    ):
        pretrain_records(manifest(PATIENTS), transductive="false")
