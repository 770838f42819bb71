import copy
import gzip
import json

import nibabel as nib
import numpy as np
import pytest
from monai.data import load_decathlon_datalist

from medssl.__main__ import main
from medssl.data import ManifestError, load_manifest
from medssl.resources import resource

GOOD = {
    "schema": "medssl.manifest/1",
    "name": "two hearts",
    "modality": {"0": "MR"},
    "labels": {"0": "background", "1": "left ventricle"},
    "slice_axis": "S",
    "spacing": [None, 1.25, 1.25],
    "window": {"percentiles": [1, 99], "zscore": True},
    "training": [
        {"case_id": "a", "subject_id": "s1", "image": "images/a.nii.gz", "label": "labels/a.nii.gz", "fold": 0},
        {"case_id": "b", "subject_id": "s2", "image": "images/b.nii.gz", "label": "labels/b.nii.gz", "fold": 1},
    ],
    "unlabeled": [{"case_id": "c", "subject_id": "s3", "image": "images/c.nii.gz"}],
}


@pytest.fixture
def write(tmp_path):
    """Write a manifest that differs from the good one, and its files."""
    for name in ("images/a", "images/b", "images/c", "labels/a", "labels/b"):
        file = tmp_path / f"{name}.nii.gz"
        file.parent.mkdir(exist_ok=True)
        file.touch()

    def write(change=lambda raw: None, text=None):
        raw = copy.deepcopy(GOOD)
        change(raw)
        path = tmp_path / "dataset.json"
        path.write_text(text or json.dumps(raw))
        return path

    return write


def save_first_scan(folder):
    """Make the first image a volume of three slices of 5 x 4, 8 mm apart."""
    nib.save(nib.Nifti1Image(np.zeros((5, 4, 3), np.int16), np.diag([1, 1, 8, 1])), folder / "images" / "a.nii.gz")


def test_records_hold_absolute_paths_and_the_rest_as_written(write, tmp_path):
    manifest = load_manifest(write())
    assert manifest.training[0]["image"] == str(tmp_path / "images/a.nii.gz")
    assert manifest.training[0]["fold"] == 0
    assert manifest.labels == {0: "background", 1: "left ventricle"}
    assert manifest.num_classes == 2
    assert manifest.spacing == (None, 1.25, 1.25)
    assert "label" not in manifest.unlabeled[0]
    assert len(manifest.sha256) == 64
    assert (manifest.root, manifest.path) == (tmp_path, tmp_path / "dataset.json")


def test_monai_reads_it_too(write):
    items = load_decathlon_datalist(str(write()), data_list_key="training")
    assert items[1]["image"].endswith("images/b.nii.gz")
    assert items[1]["subject_id"] == "s2"


def test_the_data_may_lie_elsewhere(write, tmp_path):
    path = write().rename(tmp_path.parent / "elsewhere.json")
    assert load_manifest(path, root=tmp_path).training[0]["label"] == str(tmp_path / "labels/a.nii.gz")


def change(*keys, value=None):
    """Set, or without a value delete, what the keys lead to."""

    def apply(raw):
        place = raw
        for key in keys[:-1]:
            place = place[key]
        if value is None:
            del place[keys[-1]]
        else:
            place[keys[-1]] = value

    return apply


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (change("slice_axis"), "'slice_axis' is a required property"),
        (change("spacing"), "'spacing' is a required property"),
        (change("window"), "'window' is a required property"),
        (change("schema", value="other/2"), "/schema: 'medssl.manifest/1' was expected"),
        (change("slice_axis", value="Z"), "/slice_axis: 'Z' is not one of"),
        (change("spacing", value=[0, 1, 1]), "/spacing/0: 0 is not valid"),
        (change("window", value={"hu": [0, 1], "zscore": True}), "/window: "),
        (change("labels", "0"), "/labels: '0' is a required property"),
        (change("labels", "3", value="aorta"), r"/labels: ids must run from 0 without a gap, got \[0, 1, 3\]"),
        (change("training", 0, "image", value=5), "/training/0/image: 5 is not of type 'string'"),
        (change("training", 0, "label"), "/training/0: 'label' is a required property"),
        (change("training", 0, "image_path", value="x"), "key 'image_path' must not start with image_ or label_"),
        (change("training", 1, "case_id", value="a"), "/training/0, /training/1: case_id 'a' must stand once"),
        (change("unlabeled", 0, "image", value="images/a.nii.gz"), "image 'images/a.nii.gz' must stand once"),
        (change("training", 0, "image", value="../x.nii"), "'../x.nii' must be a relative path inside the data folder"),
        (change("training", 0, "image", value="/etc/passwd"), "'/etc/passwd' must be a relative path"),
        (change("training", 0, "image", value="images/z.nii.gz"), "no file 'images/z.nii.gz' below"),
        (change("training", 0, "known_classes", value=[4]), r"known_classes \[4\] are no labels"),
        (change("unlabeled", 0, "case_id", value="a"), "/training/0, /unlabeled/0: case_id 'a' must stand once"),
        (change("unlabeled", 0, "image", value="./images/a.nii.gz"), "must stand once; it stands 2 times"),
        (change("training", 0, "label", value="images/a.nii.gz"), "/training/0/image, /training/0/label: image"),
        (change("training", 0, "label_x", value=1), "key 'label_x' must not start with image_ or label_"),
        (change("duplicate", value=[]), "/: unknown key 'duplicate', perhaps 'duplicates'; wanted: the keys of"),
        (change("duplicates", value=[["s1", "s9"]]), r"/duplicates/0: \['s9'\] are no subjects"),
        (
            change("labelled_order", value={"0": ["s1"]}),
            "/labelled_order/0: must name every subject of the other folds",
        ),
        (change("labelled_order", value={"7": ["s1"]}), r"there must be records of fold 7, got \[0, 1\]"),
        (change("label_policy", value={"1": "drop"}), "/label_policy/1: 1 is a label"),
        (change("label_policy", value={"2": "keep"}), "/label_policy/2: .* wanted: drop or ignore"),
        (change("window", value={"hu": [240, -160]}), r"/window/hu: must be a lowest and a highest value"),
        (change("window", value={"zscore": False}), "/window: .* wanted: .*percentiles"),
        (change("window", value={"percentiles": [1, 101]}), "/window: "),
        (
            change("validation", value=[{"case_id": "d", "subject_id": "s1", "image": "d", "label": "d_gt"}]),
            r"/validation: subjects \['s1'\] are also trained on",
        ),
        (change("training", 1, "subject_id", value="s1"), r"subject 's1' is in folds \['0', '1'\]"),
        (change("training", 1, "fold"), "some records name a fold and some do not"),
        (
            change("test", value=[{"case_id": "d", "subject_id": "s3", "image": "images/d.nii.gz"}]),
            r"subjects \['s3'\] are also trained on; move them, or declare transductive true",
        ),
    ],
)
def test_a_broken_manifest_is_refused_with_the_place_and_the_rule(write, broken, message):
    with pytest.raises(ManifestError, match=message):
        load_manifest(write(broken))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"name": "a", "name": "b"}', "key 'name' stands twice in one object"),
        ('{"training": [{"image": "x", "image": "y"}]}', "/training/0: key 'image' stands twice in one object"),
        ('{"spacing": [NaN, 1, 1]}', "/spacing/0: NaN is no JSON number"),
        ('{"spacing": [1, 1e999, 1]}', "/spacing/1: Infinity is no JSON number"),
        ("[" * 100_000, "it is no JSON"),
        ('{"name": ', "it is no JSON"),
        ("[]", "must be a JSON object, got a list"),
    ],
)
def test_refuses_what_pythons_parser_lets_pass(write, text, message):
    with pytest.raises(ManifestError, match=message):
        load_manifest(write(text=text))


def test_a_link_out_of_the_folder_is_an_escape(write, tmp_path):
    outside = tmp_path.parent / "outside.nii.gz"
    outside.touch()
    (tmp_path / "images" / "link.nii.gz").symlink_to(outside)
    with pytest.raises(ManifestError, match="inside the data folder"):
        load_manifest(write(change("training", 0, "image", value="images/link.nii.gz")))


def test_every_problem_is_listed_at_once(write):
    def break_three(raw):
        raw["training"][0]["image"] = "images/z.nii.gz"
        raw["training"][1]["case_id"] = "a"
        raw["training"][1]["label"] = "/absolute.nii.gz"

    with pytest.raises(ManifestError) as refused:
        load_manifest(write(break_three))
    assert len(refused.value.problems) == 3
    assert all(problem in str(refused.value) for problem in refused.value.problems)


def test_what_the_schema_finds_hides_nothing_else(write):
    def break_all(raw):
        del raw["spacing"]
        raw["training"][0]["image"] = 5
        raw["training"][1]["label"] = "../b.nii.gz"
        raw["test"] = [{"case_id": "d", "subject_id": "s2", "image": "images/c.nii.gz"}]

    with pytest.raises(ManifestError) as refused:
        load_manifest(write(break_all))
    for part in ("'spacing'", "5 is not of type", "'../b.nii.gz' must be a relative", "['s2'] are also", "stand once"):
        assert part in str(refused.value)


def test_a_wrong_data_folder_is_one_problem(write, tmp_path):
    with pytest.raises(ManifestError, match="none of the 5 files is there, nor the folder") as refused:
        load_manifest(write(), root=tmp_path / "nowhere")
    assert len(refused.value.problems) == 1


def test_test_subjects_may_be_trained_on_where_that_is_declared(write):
    def declare(raw):
        raw["test"] = [raw["unlabeled"].pop() | {"subject_id": "s1"}]
        raw["transductive"] = True

    assert load_manifest(write(declare)).test[0]["subject_id"] == "s1"


def test_one_scan_under_two_names_is_noticed_unless_declared(write, tmp_path):
    path = write()
    for name in "ab":  # packed differently, the same within
        (tmp_path / f"images/{name}.nii.gz").write_bytes(gzip.compress(b"voxels" * 9, 9 if name == "a" else 1, mtime=0))
    with pytest.raises(ManifestError, match="/training/0/image, /training/1/image: one scan under 2 names"):
        load_manifest(path)
    assert load_manifest(path, check_files=False)
    assert load_manifest(write(change("duplicates", value=[["s1", "s2"]]))).duplicates == [["s1", "s2"]]


def test_the_readme_names_every_key_of_the_schema():
    readme = resource("data_manifests/README.md").read_text()
    schema = json.loads(resource("data_manifests/schema.json").read_text())
    decathlon = {key for key, part in schema["properties"].items() if "Decathlon" in part["description"]}
    keys = (schema["properties"].keys() | schema["$defs"]["record"]["properties"].keys()) - decathlon
    assert [key for key in keys if f"`{key}`" not in readme] == []


def test_the_command_shows_the_problems_and_fails(write, caplog, tmp_path):
    save_first_scan(tmp_path)
    caplog.set_level("INFO")
    assert main(["manifest", str(write())]) == 0
    assert "two hearts" in caplog.text
    assert main(["manifest", str(write(change("spacing")))]) == 1
    assert "'spacing' is a required property" in caplog.text


def test_an_unknown_name_says_which_there_are():
    with pytest.raises(FileNotFoundError, match=r"no manifest 'hearts'; medssl ships .*phantoms"):
        load_manifest("hearts")


def test_a_broken_record_is_not_blamed_on_the_lists_of_subjects(write):
    def break_one(raw):
        raw["labelled_order"] = {"0": ["s2"]}
        raw["duplicates"] = [["s1", "s2"]]
        del raw["training"][1]["image"]

    with pytest.raises(ManifestError, match="'image' is a required property") as refused:
        load_manifest(write(break_one))
    assert len(refused.value.problems) == 1


@pytest.mark.parametrize(
    ("axis", "said"), [("S", "3 slices of 5 x 4 along S, 8 mm apart"), ("A", "is slice_axis right")]
)
def test_the_check_shows_how_the_first_scan_is_sliced(write, tmp_path, caplog, axis, said):
    path = write(change("slice_axis", value=axis))
    save_first_scan(tmp_path)
    with caplog.at_level("INFO"):
        assert main(["manifest", str(path)]) == 0
    assert said in caplog.text
    assert ("is slice_axis right" in caplog.text) == (axis == "A")


def test_a_first_scan_that_cannot_be_read_fails_the_check(write, caplog):
    assert main(["manifest", str(write())]) == 1
    assert "a.nii.gz: it is no scan (" in caplog.text


def test_the_check_says_what_the_data_set_can_be_tested_on(write, caplog, tmp_path):
    def without_folds(raw):
        for record in raw["training"]:
            del record["fold"]

    save_first_scan(tmp_path)
    with caplog.at_level("INFO"):
        assert main(["manifest", str(write())]) == 0
        assert "folds: 0 (1 subjects), 1 (1 subjects)" in caplog.text
        assert main(["manifest", str(write(without_folds))]) == 0
        assert "no folds: 2 subjects cannot be dealt into 5 folds; add subjects" in caplog.text
        assert main(["manifest", str(tmp_path)]) == 1
        assert f"got the folder {tmp_path}; give its {tmp_path}/dataset.json" in caplog.text


def test_frames_of_one_file_are_cases_of_their_own_and_one_frame_is_not_two(write):
    def frames(*numbers):
        def name_them(raw):
            records = [{"subject_id": "s3", "image": "images/c.nii.gz", "frame": number} for number in numbers]
            raw["unlabeled"] = [{**record, "case_id": f"c{place}"} for place, record in enumerate(records)]

        return name_them

    assert [record["frame"] for record in load_manifest(write(frames(1, 2, 30))).unlabeled] == [1, 2, 30]
    with pytest.raises(ManifestError, match="must stand once; it stands 2 times"):
        load_manifest(write(frames(1, 2, 2)))


def test_a_folder_of_dicom_is_an_image(write, tmp_path):
    (tmp_path / "images" / "series").mkdir()
    manifest = load_manifest(write(change("unlabeled", 0, "image", value="images/series")))
    assert manifest.unlabeled[0]["image"] == str(tmp_path / "images" / "series")
