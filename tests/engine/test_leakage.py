import dataclasses
import json

import pytest
import torch

from medssl.data import Manifest
from medssl.engine import provenance, refuse_learnt

HEARTS = Manifest(
    name="hearts",
    labels={0: "background", 1: "left ventricle"},
    slice_axis="S",
    spacing=(None, 1.0, 1.0),
    window={},
    training=[{"subject_id": name} for name in ("adam", "bea", "carl")],
)
SHARING = dataclasses.replace(HEARTS, name="the same hearts", overlaps=["hearts"])
APART = dataclasses.replace(HEARTS, name="other hearts")


@pytest.fixture
def weights(tmp_path):
    """Write a checkpoint and the receipt that a bundle would write beside it."""

    def write(part="encoder", **facts):
        torch.save({f"{part}.weight": torch.zeros(1)}, tmp_path / "model.pt")
        common = {"manifest": "hearts", "classes": list(HEARTS.labels.values()), "fold": 0, "selection": "last"}
        (tmp_path / "model.json").write_text(json.dumps(common | facts))
        return tmp_path / "model.pt"

    return write


@pytest.fixture
def finetuned(weights):
    return lambda **facts: weights(bundle="finetune", labelled=["adam"], **facts)


@pytest.fixture
def pretrained(weights):
    return lambda **facts: weights(bundle="pretrain", method="SAL", subjects=["adam", "bea"], **facts)


def seen(checkpoint, manifest, tested):
    return provenance(checkpoint, manifest, {}, tested)["test_subjects_seen"]


def test_weights_are_not_tested_on_whom_they_learnt_from(finetuned):
    with pytest.raises(ValueError, match=r"was trained on adam, test subjects .* left out, 0 of hearts"):
        refuse_learnt(finetuned(), HEARTS, ["adam", "carl"])
    refuse_learnt(finetuned(), HEARTS, ["carl"])


def test_weights_are_not_tested_on_whom_they_were_chosen_on(finetuned):
    with pytest.raises(ValueError, match="was chosen on bea, test subjects"):
        refuse_learnt(finetuned(selection="held-out training subjects", chosen_on=["bea"]), HEARTS, ["bea"])


def test_weights_declared_as_chosen_on_the_test_fold_are_tested_with_a_warning(finetuned, caplog):
    refuse_learnt(finetuned(selection="the test fold", chosen_on=["carl"]), HEARTS, ["carl"])
    assert "was chosen on its test fold: report the Dice as such" in caplog.text


def test_the_duplicate_of_a_subject_learnt_from_is_not_tested_on(finetuned):
    with pytest.raises(ValueError, match="was trained on adam, test subjects of this fold or their duplicates"):
        refuse_learnt(finetuned(), dataclasses.replace(HEARTS, duplicates=[["adam", "carl"]]), ["carl"])


def test_labels_of_another_meaning_are_not_tested_on(finetuned):
    livers = dataclasses.replace(HEARTS, labels={0: "background", 1: "liver"})
    with pytest.raises(ValueError, match=r"knows \['background', 'left ventricle'\], .* has \['background', 'liver'\]"):
        refuse_learnt(finetuned(), livers, ["carl"])


def test_a_data_set_that_shares_scans_is_searched_for_the_same_names(finetuned, pretrained):
    with pytest.raises(ValueError, match="was trained on adam"):
        refuse_learnt(finetuned(), SHARING, ["adam"])
    assert seen(pretrained(), SHARING, ["adam", "carl"]) == ["adam"]


def test_it_is_enough_that_the_receipt_says_so_and_knows_another_name(finetuned, pretrained):
    one_way = {"overlaps": [APART.name], "duplicates": [["adam", "carl"]]}
    with pytest.raises(ValueError, match="was trained on carl"):
        refuse_learnt(finetuned(**one_way), APART, ["carl"])
    assert seen(pretrained(**one_way), APART, ["carl"]) == ["carl"]


def test_other_names_in_a_data_set_that_shares_scans_clear_nobody(finetuned, pretrained, caplog):
    assert seen(pretrained(), SHARING, ["carl"]) is None
    refuse_learnt(finetuned(), SHARING, ["carl"])
    shared = "which shares scans with the same hearts: test subjects may be among them under other names"
    assert caplog.text.count(shared) == 2


def test_names_say_nothing_between_data_sets_that_share_no_scans(finetuned, pretrained, caplog):
    refuse_learnt(finetuned(), APART, ["adam"])
    assert seen(pretrained(), APART, ["adam"]) is None
    assert caplog.text == ""


def test_test_subjects_whose_images_were_seen_are_listed_and_warned_of(pretrained, caplog):
    assert seen(pretrained(), HEARTS, ["bea", "carl"]) == ["bea"]
    assert "saw the images of 1 of 2 test subjects: report the result as transductive" in caplog.text
    assert seen(pretrained(), HEARTS, ["carl"]) == []


def test_another_spacing_than_the_pre_trainings_is_warned_of(pretrained, caplog):
    provenance(pretrained(spacing=[1, 1, 1]), HEARTS, {"spacing": [2, 2, 2]}, ["carl"])
    assert "was pre-trained with spacing [1, 1, 1] and is fine-tuned with [2, 2, 2]" in caplog.text


def test_fine_tuning_does_not_start_from_weights_that_learnt_from_labels(finetuned):
    with pytest.raises(ValueError, match="must be a checkpoint of the pretrain bundle, got one of finetune"):
        provenance(finetuned(), HEARTS, {}, ["carl"])


def test_weights_without_a_receipt_are_taken_with_a_warning(pretrained, caplog):
    checkpoint = pretrained()
    checkpoint.with_suffix(".json").unlink()
    assert sorted(provenance(checkpoint, HEARTS, {}, ["carl"])) == ["checkpoint", "sha256"]
    assert "no receipt beside" in caplog.text


def test_a_segmentation_head_without_a_receipt_is_refused(pretrained):
    checkpoint = pretrained(part="head")
    checkpoint.with_suffix(".json").unlink()
    with pytest.raises(ValueError, match="holds a segmentation head: it learnt from labels, and no receipt says whose"):
        provenance(checkpoint, HEARTS, {}, ["carl"])


def test_testing_weights_whose_pre_training_saw_test_images_is_said_to_be_transductive(finetuned, caplog):
    weights = finetuned(pretrained=None, pretrained_local={"subjects": ["bea"]})
    refuse_learnt(weights, HEARTS, ["carl"])
    refuse_learnt(weights, APART, ["bea"])
    assert caplog.text == ""
    refuse_learnt(weights, HEARTS, ["bea", "carl"])
    assert "started from weights that saw test images: report the Dice as transductive" in caplog.text


def test_random_weights_have_no_provenance():
    assert provenance(None, HEARTS, {}, ["carl"]) is None
