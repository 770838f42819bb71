import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Compose

from medssl.data import load_manifest
from medssl.transforms import KnownLabels, KnownLabelsd

LABELS = {0: "background", 1: "a", 2: "b"}


def volume(*values):
    return MetaTensor(
        torch.tensor(values, dtype=torch.float32).view(1, -1), meta={"filename_or_obj": "case7_gt.nii.gz"}
    )


def test_known_labels_pass_as_they_are():
    label = volume(0, 1, 2, 2)
    assert KnownLabels(LABELS)(label) is label


@pytest.mark.parametrize("policy", [{"7": "drop"}, {"other": "drop"}])
@pytest.mark.parametrize("kind", [torch.float32, torch.uint8, np.int16])
def test_dropped_labels_become_background(policy, kind):
    values = [0, 1, 7, 2]
    label = np.array(values, kind) if kind is np.int16 else torch.tensor(values, dtype=kind)
    out = KnownLabels(LABELS, policy)(label)
    assert out.tolist() == [0, 1, 0, 2]
    assert out.dtype == label.dtype


def test_stray_labels_are_refused_with_file_id_and_number_of_voxels():
    with pytest.raises(ValueError, match=r"among \[0, 1, 2\], got 7 \(2 voxels\), 255 \(1 voxels\) in case7_gt.nii.gz"):
        KnownLabels(LABELS, {"9": "drop"})(volume(0, 7, 7, 255, 9))


def test_fractions_are_refused_even_where_others_are_dropped():
    with pytest.raises(ValueError, match=r"whole numbers, got 0.5 \(1 voxels\) in case7.*mode nearest"):
        KnownLabels(LABELS, {"other": "drop"})(volume(0, 0.5, 1))


def test_what_is_not_built_is_refused_when_constructed():
    with pytest.raises(ValueError, match=r"got {'255': 'ignore'}; nothing ignores voxels yet: drop them"):
        KnownLabels(LABELS, {"255": "ignore"})


def test_the_dictionary_transform_takes_what_a_manifest_says():
    manifest = load_manifest("chd", check_files=False)
    transform = Compose([KnownLabelsd("label", manifest.labels, manifest.label_policy)])
    out = transform({"label": volume(0, 7, 14), "image_path": "a"})
    assert out["label"].tolist() == [[0, 7, 0]]
    assert out["image_path"] == "a"
    assert isinstance(out["label"], MetaTensor)


def test_which_classes_were_contoured_is_told():
    transform = KnownLabelsd("label", LABELS)
    assert transform({"label": volume(0, 1)})["known"].tolist() == [True, True, True]
    partial = transform({"label": volume(0, 1), "known_classes": [1]})
    assert partial["known"].tolist() == [True, True, False]
    assert "known_classes" not in partial  # cases with and without it make one batch


def test_a_label_that_nobody_contoured_is_refused():
    with pytest.raises(ValueError, match=r"label of case pt_3 holds \[2.0\], which its known_classes \[1\] leave out"):
        KnownLabelsd("label", LABELS)({"label": volume(0, 1, 2), "known_classes": [1], "case_id": "pt_3"})
