import json

import nibabel as nib
import numpy as np
import pytest
from jsonschema import Draft202012Validator
from monai.data import load_decathlon_datalist

from medssl.data import folds, label_draw, load_manifest, pretrain_records, split, write_phantoms
from medssl.resources import resource

NAMES = sorted(path.stem for path in resource("data_manifests").glob("*.json") if path.stem != "schema")


@pytest.mark.parametrize("name", NAMES)
def test_every_manifest_is_sound(name):
    manifest = load_manifest(name, check_files=False)
    assert manifest.training
    assert resource(f"data_manifests/{name}.json").stem == manifest.name
    assert len(load_decathlon_datalist(str(manifest.path), data_list_key="training")) == len(manifest.training)


@pytest.mark.parametrize("name", NAMES)
def test_folds_are_dealt_by_subject_as_the_pcl_reference_deals_them(name):
    manifest = load_manifest(name, check_files=False)
    fold_of = {record["subject_id"]: record["fold"] for record in manifest.training}
    for fold, held_out in enumerate(folds(sorted(fold_of))):
        assert held_out == sorted(subject for subject in fold_of if fold_of[subject] == fold)
        if manifest.labelled_order:
            assert manifest.labelled_order[fold] == label_draw(sorted(set(fold_of) - set(held_out)))


def test_the_schema_is_one():
    Draft202012Validator.check_schema(json.loads(resource("data_manifests/schema.json").read_text()))


def subjects(records):
    return {record["subject_id"] for record in records}


# Labelled subjects of the PCL reference with M=2; fold 0 also with M=10.
REFERENCE = [[73, 18], [74, 20], [70, 16], [70, 18], [69, 20]]
TEN = [73, 18, 1, 15, 95, 6, 13, 16, 58, 39]


def test_acdc_has_the_references_labelled_patients():
    manifest = load_manifest("acdc", check_files=False)
    for fold, numbers in enumerate(REFERENCE):
        assert subjects(split(manifest, fold, 2).labelled) == {f"patient{number:03d}" for number in numbers}
    assert subjects(split(manifest, 0, 10).labelled) == {f"patient{number:03d}" for number in TEN}


def test_acdc_never_learns_from_a_tested_patients_twin():
    manifest = load_manifest("acdc", check_files=False)
    twins = {"patient074", "patient076"}
    for fold, trained in enumerate([79, 80, 80, 80, 79]):
        parts, pretrain = split(manifest, fold), pretrain_records(manifest, fold)
        assert len(subjects(parts.labelled)) == trained
        assert not (subjects(parts.test) & twins and subjects(parts.labelled + pretrain) & twins)


def test_acdc_names_two_frames_a_patient():
    frames = {}
    for record in load_manifest("acdc", check_files=False).training:
        frames.setdefault(record["subject_id"], {})[record["phase"]] = record["frame"]
        stem = f"{record['subject_id']}_frame{record['frame']:02d}"
        assert record["case_id"] == stem
        assert record["image"].endswith(f"{record['subject_id']}/{stem}.nii.gz")
        assert record["label"].endswith(f"{record['subject_id']}/{stem}_gt.nii.gz")
    assert len(frames) == 100
    assert {phases["ED"] for subject, phases in frames.items() if subject != "patient090"} == {1}
    assert frames["patient090"] == {"ED": 4, "ES": 11}
    assert frames["patient001"]["ES"] == 12


def test_chd_has_the_published_cases_and_drops_stray_labels():
    manifest = load_manifest("chd", check_files=False)
    assert [len(split(manifest, fold).test) for fold in range(5)] == [14, 14, 14, 13, 13]
    assert manifest.num_classes == 8
    assert manifest.label_policy == {"other": "drop"}
    assert manifest.window == {"percentiles": [1, 99], "zscore": True}


@pytest.mark.parametrize(
    ("name", "subjects"),
    [
        pytest.param("acdc_cardiac_mr", 65, marks=pytest.mark.data("acdc_cardiac_mr")),
        pytest.param("hippocampus_mr", 113, marks=pytest.mark.data("hippocampus_mr")),
        pytest.param("openkbp_han_ct", 50, marks=pytest.mark.data("openkbp_han_ct")),
    ],
)
def test_the_data_sets_hold_what_their_manifests_say(name, subjects, data_set):
    manifest = load_manifest(name, data_set)
    assert len({record["subject_id"] for record in manifest.training}) == subjects
    for record in manifest.training[::25]:
        image, label = nib.load(record["image"]), nib.load(record["label"])
        assert image.shape == label.shape
        found = set(np.unique(np.asarray(label.dataobj)).tolist())
        assert found <= set(manifest.labels)
        assert found - {0} <= set(record.get("known_classes", manifest.labels))


@pytest.mark.parametrize(
    ("name", "axis"),
    [
        pytest.param("acdc_cardiac_mr", 2, marks=pytest.mark.data("acdc_cardiac_mr")),
        pytest.param("hippocampus_mr", 1, marks=pytest.mark.data("hippocampus_mr")),
        pytest.param("openkbp_han_ct", 2, marks=pytest.mark.data("openkbp_han_ct")),
    ],
)
def test_the_slice_axis_is_the_one_that_was_scanned_along(name, axis, data_set):
    """Short-axis stacks and CT along z, and hippocampi along their length."""
    manifest = load_manifest(name, data_set, check_files=False)
    opposite = dict(zip("SIAPRL", "ISPALR", strict=True))
    for record in manifest.training[::25]:
        image = nib.load(record["image"])
        codes = nib.aff2axcodes(image.affine)
        assert codes[axis] in (manifest.slice_axis, opposite[manifest.slice_axis])
        if name == "hippocampus_mr":
            assert image.shape[axis] == max(image.shape)


def test_phantoms_are_what_their_shipped_manifest_says(tmp_path):
    assert write_phantoms(tmp_path).read_bytes() == resource("data_manifests/phantoms.json").read_bytes()
    manifest = load_manifest("phantoms", tmp_path)
    assert len(manifest.training) == 40
