import logging
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from dicom_files import rectangle, write_rt_struct, write_series
from PIL import Image

from medssl.__main__ import main
from medssl.data import ManifestError, load_manifest
from medssl.data.label_maps import join_labels
from medssl.data.label_sources import read_slice
from medssl.data.scan_folder import scan_folder
from medssl.readers import ScanError, read_scan

AFFINE = np.diag([-0.8, -0.8, 5.0, 1.0])


@pytest.fixture
def executor():
    with ThreadPoolExecutor(2) as threads:
        yield threads


def save(file, voxels, affine=AFFINE):
    file.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(np.asarray(voxels), affine), file)


def block(*ranges):
    """A mask, 1 within the ranges."""
    mask = np.zeros((6, 5, 4), dtype=np.uint8)
    mask[tuple(slice(*pair) for pair in ranges)] = 1
    return mask


def ids(root, record):
    return np.asanyarray(read_scan(root / record["label"]).dataobj)


@pytest.fixture
def organs(tmp_path):
    """Two cases with a file per organ; the second lacks one."""
    for number, case in enumerate("ab"):
        save(tmp_path / case / "img.nii.gz", np.arange(number, number + 120, dtype=np.int16).reshape(6, 5, 4))
        save(tmp_path / case / "structures" / "Large Bowel.nii.gz", block((0, 3), (0, 5), (0, 4)))
    save(tmp_path / "a" / "structures" / "Liver.nii.gz", block((2, 6), (0, 5), (0, 4)))
    save(tmp_path / "a" / "structures" / "Skin.nii.gz", block((0, 6), (0, 5), (0, 4)))
    return tmp_path


def test_files_of_organs_become_one_map_where_the_higher_id_wins(organs, executor, caplog):
    records = scan_folder(organs, "{case}/img.nii.gz", "{case}/structures/{organ}.nii.gz")["training"]
    with caplog.at_level(logging.INFO):
        made = join_labels(records, organs, {1: ["large_bowel"], 2: ["Liver"]}, executor)
    expected = np.where(block((2, 6), (0, 5), (0, 4)), 2, block((0, 3), (0, 5), (0, 4)))
    np.testing.assert_array_equal(ids(organs, made[0]), expected)
    np.testing.assert_array_equal(ids(organs, made[1]), block((0, 3), (0, 5), (0, 4)))
    assert made[0]["label"].startswith("medssl_labels/a.")
    assert "20 voxels of 1 cases lie in several organs: the higher id has them" in caplog.text
    assert "left out, with the number of cases: Skin (1)" in caplog.text
    assert "labels: 2 (Liver) was not contoured in b" in caplog.text


def test_a_manifest_elsewhere_has_the_maps_beside_it_and_leaves_the_data_as_they_are(organs, tmp_path_factory):
    before = sorted(organs.rglob("*"))
    output = tmp_path_factory.mktemp("ours") / "hearts.json"
    pattern = ["--pattern", "{case}/img.nii.gz", "--label", "{case}/structures/{organ}.nii.gz"]
    scan = ["manifest", "scan", str(organs), *pattern, "--modality", "CT", "--workers", "1", "--output", str(output)]
    assert main(scan) == 0
    assert sorted(organs.rglob("*")) == before
    first = load_manifest(output, organs).training[0]
    assert first["image"] == str(organs / "a" / "img.nii.gz")
    assert set(np.unique(read_scan(first["label"]).dataobj)) == {3}  # the skin covers all
    assert (output.parent / "medssl_labels") in Path(first["label"]).parents
    output.write_text(output.read_text().replace("medssl_labels", "../medssl_labels"))
    with pytest.raises(ManifestError, match=f"must be a relative path inside the manifest's folder {output.parent}"):
        load_manifest(output, organs)


def test_an_organ_without_a_file_was_not_looked_for(organs, executor):
    records = scan_folder(organs, "{case}/img.nii.gz", "{case}/structures/{organ}.nii.gz")["training"]
    made = join_labels(records, organs, {1: ["Large Bowel"], 2: ["Liver"]}, executor)
    assert "known_classes" not in made[0]
    assert made[1]["known_classes"] == [1]


def test_maps_are_written_again_only_where_something_changed(organs, executor):
    records = scan_folder(organs, "{case}/img.nii.gz", "{case}/structures/{organ}.nii.gz")["training"]
    join = {"records": records, "root": organs, "executor": executor}
    first = join_labels(**join, organs={1: ["Large Bowel"], 2: ["Liver"]})
    written = (organs / first[0]["label"]).stat().st_mtime_ns
    save(organs / "b" / "structures" / "Large Bowel.nii.gz", block((0, 1), (0, 1), (0, 1)))
    second = join_labels(**join, organs={1: ["Large Bowel"], 2: ["Liver"]})
    assert [record.get("known_classes") for record in second] == [None, [1]]
    assert second[0]["label"] == first[0]["label"]
    assert (organs / first[0]["label"]).stat().st_mtime_ns == written
    assert ids(organs, second[1]).sum() == 1


def test_a_map_that_a_manifest_names_is_never_replaced(organs, executor):
    records = scan_folder(organs, "{case}/img.nii.gz", "{case}/structures/{organ}.nii.gz")["training"]
    first = join_labels(records, organs, {1: ["Large Bowel"], 2: ["Liver"]}, executor)
    second = join_labels(records, organs, {1: ["Liver"], 2: ["Large Bowel"]}, executor)
    assert (ids(organs, first[0])[0, 0, 0], ids(organs, second[0])[0, 0, 0]) == (1, 2)
    (organs / "a" / "structures" / "Liver.nii.gz").rename(organs / "a" / "structures" / "Spleen.nii.gz")
    renamed = scan_folder(organs, "{case}/img.nii.gz", "{case}/structures/{organ}.nii.gz")["training"]
    third = join_labels(renamed, organs, {1: ["Large Bowel"], 2: ["Spleen"]}, executor)
    assert len({record["label"] for record in (first[0], second[0], third[0])}) == 3


def test_cases_that_are_called_alike_have_maps_of_their_own(tmp_path, executor):
    for number, case in enumerate(("1 a", "1_a", "心臓", "肝臓")):
        save(tmp_path / case / "img.nii.gz", np.full((6, 5, 4), number, dtype=np.int16))
        save(tmp_path / case / "seg.nii.gz", block((0, 1 + number)))
    records = scan_folder(tmp_path, "{case}/img.nii.gz", "{case}/seg.nii.gz")["training"]
    made = {record["case_id"]: ids(tmp_path, record) for record in join_labels(records, tmp_path, {1: [1]}, executor)}
    assert [int(made[case].sum()) for case in ("1 a", "1_a", "心臓", "肝臓")] == [20, 40, 60, 80]


def test_a_misspelt_organ_and_another_grid_are_told(organs, executor):
    records = scan_folder(organs, "{case}/img.nii.gz", "{case}/structures/{organ}.nii.gz")["training"]
    with pytest.raises(ValueError, match=r"no case has label 2 \(Livre\); what no label names: Liver, Skin; correct"):
        join_labels(records, organs, {1: ["Large Bowel"], 2: ["Livre"]}, executor)
    save(organs / "b" / "structures" / "Large Bowel.nii.gz", block((0, 1)), np.diag([-0.8, -0.8, 4.0, 1.0]))
    with pytest.raises(ValueError, match="must lie on one grid"):
        join_labels(records, organs, {1: ["Large Bowel"]}, executor)
    save(organs / "b" / "structures" / "Large Bowel.nii.gz", block((0, 1)) * np.float32(0.5))
    cut = (organs / "a" / "structures" / "Large Bowel.nii.gz").read_bytes()[:90]
    (organs / "a" / "structures" / "Large Bowel.nii.gz").write_bytes(cut)
    with pytest.raises(
        ValueError, match=r"(?s)2 cases cannot be joined.*\n  a: .*\n  b: .*whole numbers, it holds 0\.5"
    ):
        join_labels(records, organs, {1: ["Large Bowel"]}, executor)


def test_ids_of_files_become_those_of_the_manifest(tmp_path, executor, caplog):
    save(tmp_path / "a_image.nii.gz", np.arange(120, dtype=np.int16).reshape(6, 5, 4))
    values = np.zeros((6, 5, 4), dtype=np.int16)
    values[0], values[1], values[2], values[3] = 500, 205, 421, 550
    save(tmp_path / "a_label.nii.gz", values)
    records = scan_folder(tmp_path, "{case}_image.nii.gz", "{case}_label.nii.gz")["training"]
    with caplog.at_level(logging.INFO):
        (made,) = join_labels(records, tmp_path, {1: [500], 2: [205, 420, 421], 3: [850, 550]}, executor)
    assert ids(tmp_path, made)[:, 0, 0].tolist() == [1, 2, 2, 3, 0, 0]
    (made,) = join_labels(records, tmp_path, {1: [500], 2: [205], 3: [850, 550], 4: [421]}, executor)
    assert ids(tmp_path, made)[:, 0, 0].tolist() == [1, 2, 4, 3, 0, 0]
    assert "known_classes" not in made


def test_ids_that_no_file_holds_are_refused_where_there_are_no_others(tmp_path, executor, caplog):
    save(tmp_path / "a_image.nii.gz", np.arange(120, dtype=np.int16).reshape(6, 5, 4))
    save(tmp_path / "a_label.nii.gz", block((0, 2)))
    records = scan_folder(tmp_path, "{case}_image.nii.gz", "{case}_label.nii.gz")["training"]
    with pytest.raises(ValueError, match=r"no case has label 1 \(255\); what no label names: 1; correct"):
        join_labels(records, tmp_path, {1: [255]}, executor)
    join_labels(records, tmp_path, {1: [1], 2: [2]}, executor)
    assert "no case has a voxel of label 2 (2)" in caplog.text


def test_an_id_below_0_is_not_taken_for_the_one_above(tmp_path, executor):
    save(tmp_path / "image.nii.gz", np.arange(120, dtype=np.int16).reshape(6, 5, 4))
    save(tmp_path / "label.nii.gz", block((0, 2)) - np.int16(1))
    record = {"case_id": "a", "image": "image.nii.gz", "label": "label.nii.gz"}
    with pytest.raises(ValueError, match=r"no case has label 1 \(1\); what no label names: -1"):
        join_labels([record], tmp_path, {1: [1]}, executor)


def test_known_classes_are_numbered_anew_with_their_labels(tmp_path, executor):
    save(tmp_path / "image.nii.gz", np.arange(120, dtype=np.int16).reshape(6, 5, 4))
    save(tmp_path / "label.nii.gz", block((0, 2)) * 3)
    first = {"case_id": "a", "image": "image.nii.gz", "label": "label.nii.gz", "known_classes": [1, 3]}
    records = [first, {**first, "case_id": "b", "known_classes": [2, 3]}]
    made = join_labels(records, tmp_path, {1: [3], 2: [2]}, executor)
    assert [record.get("known_classes") for record in made] == [[1], None]


def contoured(folder, series, regions):
    """A series and the contours of its regions, as TCIA lays them out."""
    folder.mkdir(parents=True)
    write_series(folder / "1-CT", depth=4, uid=series)
    affine = read_scan(folder / "1-CT").affine
    (folder / "2-RT").mkdir()
    write_rt_struct(folder / "2-RT" / "1-1.dcm", regions, affine, series="1.2.5")
    return affine


def test_contours_become_labels_and_are_those_of_their_image(tmp_path, caplog):
    square = [rectangle((0.5, 0.5), (3.5, 2.5), 1)]
    folder = tmp_path / "LCTSC-1" / "study"
    contoured(folder, "1.2.5", {"Esophagus": square, "Lung_L": [rectangle((3.5, 0.5), (5.5, 4.5), 2)]})
    command = ["manifest", "scan", str(tmp_path), "--pattern", "{case}/*/*/", "--label", "{case}/*/*/*.dcm"]
    command += ["--modality", "CT", "--workers", "1"]
    assert main(command) == 1
    assert "say which regions are labels: --labels background ..." in caplog.text
    assert main([*command, "--labels", "background", "lung L", "esophagus"]) == 0
    (record,) = load_manifest(tmp_path / "manifest.json").training
    expected = np.zeros((7, 6, 4))
    expected[1:4, 1:3, 1] = 2
    expected[4:6, 1:5, 2] = 1
    np.testing.assert_array_equal(np.asanyarray(read_scan(record["label"]).dataobj), expected)


def test_contours_of_another_series_are_refused(tmp_path, caplog):
    contoured(tmp_path / "a" / "study", "1.2.6", {"Heart": [rectangle((0.5, 0.5), (3.5, 2.5), 1)]})
    command = ["manifest", "scan", str(tmp_path), "--pattern", "{case}/*/*/", "--label", "{case}/*/*/*.dcm"]
    assert main([*command, "--modality", "CT", "--workers", "1", "--labels", "background", "Heart"]) == 1
    assert "it was drawn on series 1.2.5, the image is 1.2.6" in caplog.text


def test_organs_name_the_labels_where_nothing_else_does(organs, caplog):
    command = ["manifest", "scan", str(organs), "--pattern", "{case}/img.nii.gz", "--modality", "CT"]
    assert main([*command, "--label", "{case}/structures/{organ}.nii.gz", "--workers", "1"]) == 0
    manifest = load_manifest(organs / "manifest.json")
    assert manifest.labels == {0: "background", 1: "Large Bowel", 2: "Liver", 3: "Skin"}
    assert [record["known_classes"] for record in manifest.training] == [[3], [1]]  # skin covers the others


@pytest.mark.data("misc_formats")
def test_slices_of_a_label_lie_where_the_liver_is(data_set, tmp_path, executor):
    for name in ("DICOM_anon", "Ground"):
        (tmp_path / "1").mkdir(exist_ok=True)
        (tmp_path / "1" / name).symlink_to(data_set / "chaos_ct_dicom" / name)
    records = [{"case_id": "1", "subject_id": "1", "image": "1/DICOM_anon", "label": "1/Ground"}]
    (made,) = join_labels(records, tmp_path, {1: [255]}, executor)
    voxels = np.asanyarray(read_scan(tmp_path / "1" / "DICOM_anon").dataobj)
    label = ids(tmp_path, made)
    assert voxels[label == 1].std() < 40  # 120 and more in any other order of slices and rows
    assert label.sum() == sum(
        (np.asarray(Image.open(file)) > 0).sum() for file in (tmp_path / "1" / "Ground").iterdir()
    )


def test_every_slice_has_its_picture(tmp_path, executor):
    (tmp_path / "1" / "Ground").mkdir(parents=True)
    write_series(tmp_path / "1" / "DICOM_anon", depth=3)
    for number in range(2):
        Image.fromarray(np.zeros((6, 7), dtype=np.uint8)).save(tmp_path / "1" / "Ground" / f"{number}.png")
    records = [{"case_id": "1", "subject_id": "1", "image": "1/DICOM_anon", "label": "1/Ground"}]
    with pytest.raises(ValueError, match=r"1: .*there must be a PNG for each of 3 slices, got 2"):
        join_labels(records, tmp_path, {1: [255]}, executor)
    (tmp_path / "1" / "Ground" / "2.png").write_bytes((tmp_path / "1" / "Ground" / "1.png").read_bytes()[:40])
    with pytest.raises(ValueError, match=r"2\.png: it cannot be read to its end"):
        join_labels(records, tmp_path, {1: [255]}, executor)


@pytest.mark.parametrize(
    ("mode", "values"), [("1", [0, 255]), ("L", [0, 63, 252]), ("I;16", [0, 500, 600]), ("P", [0, 1, 2])]
)
def test_grey_values_are_those_of_the_file(mode, values, tmp_path):
    pixels = np.resize(values, (6, 7)).astype(np.uint16 if mode == "I;16" else np.uint8)
    picture = Image.fromarray(pixels)
    if mode == "P":
        picture.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0])
    (picture.convert("1") if mode == "1" else picture).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_slice(tmp_path / "a.png"), pixels)


def test_colours_are_no_labels(tmp_path):
    Image.new("RGB", (7, 6)).save(tmp_path / "a.png")
    with pytest.raises(ScanError, match="it must be grey, it has 3 channels"):
        read_slice(tmp_path / "a.png")


def test_an_organ_that_another_covers_is_not_said_to_be_absent(organs, executor, caplog):
    records = scan_folder(organs, "{case}/img.nii.gz", "{case}/structures/{organ}.nii.gz")["training"]
    made = join_labels(records, organs, {1: ["Large Bowel"], 2: ["Liver"], 3: ["Skin"]}, executor)
    assert made[0]["known_classes"] == [3]
    assert "labels: 1 (Large Bowel) is covered by those listed after it in a" in caplog.text


def test_cases_without_a_contour_of_a_label_are_learnt_from_without_labels(tmp_path, caplog):
    square = [rectangle((0.5, 0.5), (3.5, 2.5), 1)]
    contoured(tmp_path / "a" / "study", "1.2.5", {"Heart": square})
    contoured(tmp_path / "b" / "study", "1.2.5", {"Cor": square})
    command = ["manifest", "scan", str(tmp_path), "--pattern", "{case}/*/*/", "--label", "{case}/*/*/*.dcm"]
    assert main([*command, "--modality", "CT", "--workers", "1", "--labels", "background", "Heart"]) == 0
    manifest = load_manifest(tmp_path / "manifest.json")
    assert [record["case_id"] for record in manifest.training] == ["a"]
    assert [record["case_id"] for record in manifest.unlabeled] == ["b"]
    assert "labels: none in b, which go to unlabeled" in caplog.text
