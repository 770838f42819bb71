import json

import nibabel as nib
import numpy as np
import pytest
from dicom_files import write_series

from medssl.__main__ import main
from medssl.data import ManifestError, load_manifest
from medssl.data.converters import from_nnssl, from_nnunet, from_table
from medssl.data.scan_folder import scan_folder


def save(root, *names, labels=(0, 1), sizes=(-0.8, -0.8, 5.0)):
    """Volumes of those ids, LPS."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        voxels = np.random.default_rng(sum(map(ord, name))).choice(labels, (6, 5, 4)).astype(np.int16)
        nib.save(nib.Nifti1Image(voxels, np.diag([*sizes, 1.0])), root / name)


def test_a_pattern_says_what_is_whose(tmp_path):
    save(tmp_path, "p1/p1_frame01.nii.gz", "p1/p1_frame12.nii.gz", "p1/p1_frame12_gt.nii.gz", "p2/p2_frame03.nii.gz")
    save(tmp_path, "p1/p2_frame05.nii.gz")  # in another's folder: the field is not the same
    found = scan_folder(
        tmp_path, "{subject}/{subject}_frame{frame}.nii.gz", "{subject}/{subject}_frame{frame}_gt.nii.gz"
    )
    assert [record["case_id"] for record in found["training"]] == ["p1_12"]
    assert found["training"][0]["label"] == "p1/p1_frame12_gt.nii.gz"
    assert [(r["case_id"], r["subject_id"]) for r in found["unlabeled"]] == [
        ("p1_01", "p1"),
        ("p2_03", "p2"),
    ]


def test_cases_come_in_the_order_of_their_numbers(tmp_path):
    save(tmp_path, "img10.nii.gz", "img2.nii.gz", "img1.nii.gz")
    assert [r["case_id"] for r in scan_folder(tmp_path, "img{case}.nii.gz")["unlabeled"]] == ["1", "2", "10"]


def test_folders_of_dicom_are_named_by_a_slash(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        write_series(tmp_path / name / "ct", depth=1)
    (tmp_path / "c" / "ct").mkdir(parents=True)  # holds no image
    assert [r["image"] for r in scan_folder(tmp_path, "{case}/ct/")["unlabeled"]] == ["a/ct", "b/ct"]


def test_a_label_may_be_that_of_several_images(tmp_path):
    save(tmp_path, "p1_t1.nii.gz", "p1_t2.nii.gz", "p1_seg.nii.gz")
    found = scan_folder(tmp_path, "{subject}_{modality:t\\d}.nii.gz", "{subject}_seg.nii.gz")
    assert [record["label"] for record in found["training"]] == ["p1_seg.nii.gz"] * 2


def test_fields_are_narrowed_by_regular_expressions_with_braces_too(tmp_path):
    save(tmp_path, "s0001/ct.nii.gz", "s01/ct.nii.gz", "s0001/masks/liver.nii.gz", "s0001/masks/skin.nii.gz")
    found = scan_folder(tmp_path, "{case:s\\d{4}}/ct.nii.gz", "{case}/masks/{organ:l.*}.nii.gz")
    assert [record["label"] for record in found["training"]] == [{"liver": "s0001/masks/liver.nii.gz"}]
    assert found["unlabeled"] == []


def test_links_that_lead_in_circles_are_followed_once(tmp_path):
    save(tmp_path, "scans/a.nii.gz")
    (tmp_path / "scans" / "again").symlink_to(tmp_path / "scans")
    assert len(scan_folder(tmp_path, "**/{case}.nii.gz")["unlabeled"]) == 1


def test_refuses_patterns_that_fit_nothing_or_too_much(tmp_path, caplog):
    save(tmp_path, "images/a.nii.gz", "labels/a.nii.gz", "labels/b.nii.gz")
    with pytest.raises(FileNotFoundError, match=r"fits 'img/\{case\}.nii.gz'; it holds images/a.nii.gz"):
        scan_folder(tmp_path, "img/{case}.nii.gz")
    scan_folder(tmp_path, "images/{case}.nii.gz", "labels/{case}.nii.gz")
    assert "1 labels belong to no image, such as labels/b.nii.gz" in caplog.text
    with pytest.raises(ValueError, match=r"the regular expressions of 'images/\{case:\(a\}.nii.gz' cannot be read"):
        scan_folder(tmp_path, "images/{case:(a}.nii.gz")
    with pytest.raises(ValueError, match=r"the label's pattern may use case, got id"):
        scan_folder(tmp_path, "images/{case}.nii.gz", "labels/{id}.nii.gz")
    with pytest.raises(ValueError, match="would both be case 'a'; give the pattern another field"):
        scan_folder(tmp_path, "{folder}/{case}.nii.gz")
    with pytest.raises(ValueError, match="a pattern must have a field"):
        scan_folder(tmp_path, "images/a.nii.gz")
    (tmp_path / "labels" / "a.nii.gz").unlink()
    with pytest.raises(ValueError, match=r"1 labels belong to no image, such as labels/b.nii.gz; correct the patterns"):
        scan_folder(tmp_path, "images/{case}.nii.gz", "labels/{case}.nii.gz")


def test_a_folder_becomes_a_manifest_in_one_command(tmp_path, caplog):
    save(tmp_path, "images/a.nii.gz", "images/b.nii.gz", "labels/a.nii.gz")
    patterns = ["--pattern", "images/{case}.nii.gz", "--label", "labels/{case}.nii.gz"]
    with caplog.at_level("INFO"):
        assert main(["manifest", "scan", str(tmp_path), *patterns, "--modality", "CT"]) == 0
    manifest = load_manifest(tmp_path / "manifest.json")
    assert manifest.spacing == (5.0, 0.8, 0.8)
    assert manifest.window == {"hu": [-160, 240]}
    assert manifest.labels == {0: "background", 1: "label 1"}
    assert [len(manifest.training), len(manifest.unlabeled)] == [1, 1]
    assert "spacing: [5.0, 0.8, 0.8] mm, the median of the files" in caplog.text
    assert main(["manifest", "scan", str(tmp_path), *patterns, "--modality", "CT"]) == 1
    assert "manifest.json is there already" in caplog.text
    assert main(["manifest", str(tmp_path / "manifest.json")]) == 0


def test_what_is_said_is_taken_and_ids_with_gaps_are_refused(tmp_path, caplog):
    save(tmp_path, "images/a.nii.gz", "labels/a.nii.gz", labels=(0, 2))
    command = ["manifest", "scan", str(tmp_path), "--pattern", "images/{case}.nii.gz", "--label"]
    command += ["labels/{case}.nii.gz", "--modality", "MR"]
    assert main(command) == 1
    assert "ids must run from 0 without a gap, the label files hold [0, 2]" in caplog.text
    assert main([*command, "--labels", "liver", "tumour"]) == 1
    assert "labels must begin with background, the id 0, got liver tumour" in caplog.text
    told = ["--labels", "background", "liver", "tumour", "--spacing", "None", "1", "1", "--slice-axis", "A"]
    assert main([*command, *told, "--window", '{"zscore": true}', "--name", "ours"]) == 0
    manifest = load_manifest(tmp_path / "manifest.json")
    assert manifest.labels == {0: "background", 1: "liver", 2: "tumour"}
    assert (manifest.name, manifest.spacing, manifest.slice_axis) == ("ours", (None, 1.0, 1.0), "A")
    assert manifest.window == {"zscore": True}


def test_a_modality_is_asked_for(tmp_path, caplog):
    save(tmp_path, "a.nii.gz")
    assert main(["manifest", "scan", str(tmp_path), "--pattern", "{case}.nii.gz"]) == 1
    assert "say what the images are: --modality CT" in caplog.text


@pytest.fixture
def nnunet(tmp_path):
    """A data set as nnU-Net v2 keeps it."""
    save(tmp_path, "imagesTr/la_1_0000.nii.gz", "labelsTr/la_1.nii.gz", "imagesTs/la_2_0000.nii.gz")
    raw = {"channel_names": {"0": "MRI"}, "labels": {"background": 0, "left atrium": 1}, "numTraining": 1}
    (tmp_path / "dataset.json").write_text(json.dumps({**raw, "file_ending": ".nii.gz"}))
    return tmp_path


def change(root, **values):
    file = root / "dataset.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


def test_nnunets_names_become_labels_by_id(nnunet):
    assert main(["manifest", "nnunet", str(nnunet)]) == 0
    manifest = load_manifest(nnunet / "manifest.json")
    assert manifest.labels == {0: "background", 1: "left atrium"}
    assert [record["case_id"] for record in manifest.training + manifest.unlabeled] == ["la_1", "la_2"]
    assert manifest.window == {"percentiles": [1, 99], "zscore": True}


def test_nnunets_ignored_voxels_are_named_and_regions_and_channels_refused(nnunet):
    change(nnunet, labels={"background": 0, "left atrium": 1, "ignore": 2})
    assert from_nnunet(nnunet)["label_policy"] == {"2": "ignore"}
    change(nnunet, labels={"background": 0, "whole": [1, 2], "core": 2})
    with pytest.raises(ValueError, match=r"a label must be one id, got regions \{'whole': \[1, 2\]\}"):
        from_nnunet(nnunet)
    change(nnunet, channel_names={"0": "T1", "1": "T2"})
    with pytest.raises(ValueError, match=r"images must have one channel, got \['T1', 'T2'\]"):
        from_nnunet(nnunet)


def test_nnssls_images_are_unlabelled_and_stay_in_their_folder(tmp_path, monkeypatch):
    save(tmp_path, "a/1.nii.gz", "a/2.nii.gz")
    monkeypatch.setenv("SCANS", str(tmp_path))
    images = [{"name": name, "image_path": f"$SCANS/a/{name}.nii.gz"} for name in "12"]
    raw = {"collection_name": "ours", "datasets": {"d": {"subjects": {"s": {"sessions": {"v": {"images": images}}}}}}}
    (tmp_path / "pretrain_data.json").write_text(json.dumps(raw))
    facts = from_nnssl(tmp_path / "pretrain_data.json", tmp_path)
    assert facts["unlabeled"][1] == {"case_id": "d_s_v_2", "subject_id": "d_s", "image": "a/2.nii.gz"}
    with pytest.raises(ValueError, match="must lie in"):
        from_nnssl(tmp_path / "pretrain_data.json", tmp_path / "a" / "b")


def test_rows_of_a_table_become_records(tmp_path):
    rows = ["image,label,subject_id,fold,section", "a.nii.gz,a_gt.nii.gz,anna,0,", "b.nii.gz,,,,"]
    (tmp_path / "table.csv").write_text("\n".join([*rows, "c.nii.gz,c_gt.nii.gz,cleo,,test"]))
    found = from_table(tmp_path / "table.csv")
    assert found["training"] == [
        {"image": "a.nii.gz", "label": "a_gt.nii.gz", "subject_id": "anna", "fold": 0, "case_id": "a"}
    ]
    assert found["unlabeled"] == [{"image": "b.nii.gz", "case_id": "b", "subject_id": "b"}]
    assert found["test"][0]["subject_id"] == "cleo"


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("picture\na.nii.gz\n", r"must have a column image, .* got \['picture'\]"),
        ("image,label\n", "must have a row for every scan, it has none"),
        ("image,colour\na.nii.gz,red\n", r"got \['colour'\]"),
        (
            "image,fold,section\na.nii.gz,first,\n,,\nb.nii.gz,,train\n",
            r"row 1: fold must be .* got 'first'\n  row 2: image must be a path, .*\n  row 3: section must be one",
        ),
    ],
)
def test_tables_that_say_something_else_are_refused(table, message, tmp_path):
    (tmp_path / "table.csv").write_text(table)
    with pytest.raises(ValueError, match=message):
        from_table(tmp_path / "table.csv")


def test_a_table_that_names_a_missing_file_leaves_a_manifest_to_correct(tmp_path, caplog):
    (tmp_path / "table.csv").write_text("image\na.nii.gz\n")
    options = [
        "--root",
        str(tmp_path),
        "--modality",
        "CT",
        "--spacing",
        "None",
        "1",
        "1",
        "--labels",
        "background",
        "liver",
    ]
    assert main(["manifest", "csv", str(tmp_path / "table.csv"), *options]) == 1
    assert "no file 'a.nii.gz' below" in caplog.text
    with pytest.raises(ManifestError):
        load_manifest(tmp_path / "unusable_manifest.json")
    assert not (tmp_path / "manifest.json").exists()


def test_a_folder_without_labels_is_one_to_learn_from(tmp_path, caplog):
    save(tmp_path, "p1_a.nii.gz", "p1_b.nii.gz")
    command = ["manifest", "scan", str(tmp_path), "--modality", "MR", "--pattern", "{subject:p\\d}_{case}.nii.gz"]
    with caplog.at_level("INFO"):
        assert main(command) == 0
    manifest = load_manifest(tmp_path / "manifest.json")
    assert [(record["case_id"], record["subject_id"]) for record in manifest.unlabeled] == [
        ("p1_a", "p1"),
        ("p1_b", "p1"),
    ]
    assert "only one of a person" not in caplog.text
    with caplog.at_level("INFO"):
        command = ["manifest", "scan", str(tmp_path), "--modality", "MR", "--pattern", "{case}.nii.gz"]
        assert main([*command, "--label", "label/{case}.nii.gz", "--output", str(tmp_path / "again.json")]) == 0
    assert "each of the 2 scans is taken for the only one of a person; if not, say whose" in caplog.text
    assert "no label in" in caplog.text


def test_a_folder_that_is_no_data_set_of_nnunet_says_which_is(nnunet, caplog):
    assert main(["manifest", "nnunet", str(nnunet.parent)]) == 1
    assert "no dataset.json in" in caplog.text
