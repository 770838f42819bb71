import base64
import hashlib
import io
import json
from concurrent.futures import ThreadPoolExecutor

import nibabel as nib
import numpy as np
import pytest
from monai.transforms import Compose
from PIL import Image

from medssl.__main__ import main
from medssl.data import load_manifest
from medssl.inspection import inspect, write_page
from medssl.inspection.page import lines
from medssl.readers import KINDS
from medssl.resources import resource
from medssl.transforms import KnownLabelsd, LoadScand, ResampleToSpacingd, SameGridd, Windowd

AFFINE = np.diag([-1.0, -1.0, 5.0, 1.0])
IMAGE = np.random.default_rng(0).normal(100, 30, (20, 24, 6)).astype(np.float32)
LABEL = np.zeros(IMAGE.shape, np.uint8)
LABEL[5:10, 5:10, 2:4] = 1


def save(file, voxels, affine=AFFINE):
    file.parent.mkdir(exist_ok=True, parents=True)
    nib.save(nib.Nifti1Image(voxels, affine), file)


class Folder:
    """A data set of three labelled cases that can be spoilt."""

    def __init__(self, root):
        self.root = root
        self.manifest = {
            "schema": "medssl.manifest/1",
            "name": "hearts",
            "modality": {"0": "MR"},
            "labels": {"0": "background", "1": "heart"},
            "slice_axis": "S",
            "spacing": [None, 1.0, 1.0],
            "window": {"percentiles": [1, 99], "zscore": True},
            "training": [self.record(name) for name in "abc"],
        }
        for number, name in enumerate("abc"):
            save(self.image(name), IMAGE + number)
            save(self.label(name), LABEL)

    def record(self, name):
        return {"case_id": name, "subject_id": name, "image": f"images/{name}.nii.gz", "label": f"labels/{name}.nii.gz"}

    def image(self, name):
        return self.root / "images" / f"{name}.nii.gz"

    def label(self, name):
        return self.root / "labels" / f"{name}.nii.gz"

    def write(self):
        (self.root / "dataset.json").write_text(json.dumps(self.manifest))
        return self.root / "dataset.json"

    def inspect(self, **kwargs):
        with ThreadPoolExecutor(1) as executor:
            return inspect(self.write(), self.root / "inspection", executor, **kwargs)

    def found(self, **kwargs):
        """Kinds and cases of all findings."""
        return [(finding.code, finding.case_id) for finding in self.inspect(**kwargs).findings]


@pytest.fixture
def folder(tmp_path):
    return Folder(tmp_path)


def test_a_sound_data_set_has_no_findings_and_its_facts_are_told(folder):
    inspection = folder.inspect()
    assert inspection.findings == []
    assert inspection.sound
    facts = inspection.cases[1].facts
    assert (facts["shape"], facts["axes"], facts["slices"], facts["spacing"]) == ([20, 24, 6], "LPS", 6, [5, 1, 1])
    assert facts["millilitres"] == {"heart": pytest.approx(50 * 5 / 1000)}
    assert facts["intensities"][0] == pytest.approx(IMAGE.min() + 1, abs=0.01)


def cut_off(folder):
    data = folder.image("b").read_bytes()
    folder.image("b").write_bytes(data[: len(data) // 2])


def nan(folder):
    voxels = IMAGE.copy()
    voxels[3, 4, 5] = np.nan
    save(folder.image("b"), voxels)


def padded(folder):
    """An image that is there in two slices only within the contour."""
    save(folder.image("b"), np.where((LABEL > 0) | (np.arange(6) > 3), IMAGE, -1000).astype(np.float32))


def tilted_label(folder):
    save(folder.label("b"), LABEL, AFFINE + np.diag([0, 0, 5.0, 0]))


def unplaced(folder):
    save(folder.image("b"), IMAGE + 1, None)
    save(folder.label("b"), LABEL, None)


SPOILT = {
    "an image is missing": (lambda f: f.image("b").unlink(), "missing"),
    "a label is missing": (lambda f: f.label("b").unlink(), "missing"),
    "an image is cut off": (cut_off, "damaged"),
    "an image is a text": (lambda f: f.image("b").write_bytes(b"text " * 99), "unreadable"),
    "an image has frames": (lambda f: save(f.image("b"), np.stack([IMAGE] * 3, axis=-1)), "not_a_volume"),
    "a voxel is not finite": (nan, "intensities"),
    "an image is constant": (lambda f: save(f.image("b"), np.ones_like(IMAGE)), "intensities"),
    "a label has another shape": (lambda f: save(f.label("b"), LABEL[..., :4]), "grid"),
    "a label has twice the spacing": (tilted_label, "grid"),
    "a label lies elsewhere": (lambda f: save(f.label("b"), LABEL, AFFINE + np.eye(4)[3] * 30), "grid"),
    "a label has stray ids": (lambda f: save(f.label("b"), LABEL * 7), "labels"),
    "a label has fractions": (lambda f: save(f.label("b"), LABEL * np.float32(0.9999)), "labels"),
    "a label is empty": (lambda f: save(f.label("b"), LABEL * 0), "empty"),
    "padding tells the label": (padded, "support"),
    "a plain file lies beside": (lambda f: save(f.root / "images" / "b.nii", IMAGE), "header"),
    "axes are named nowhere": (unplaced, "geometry"),
}


@pytest.mark.parametrize(("spoil", "code"), SPOILT.values(), ids=SPOILT)
def test_what_is_wrong_with_one_case_is_found_and_the_others_are_left_alone(spoil, code, folder):
    spoil(folder)
    inspection = folder.inspect()
    assert {finding.case_id for finding in inspection.findings} == {"b"}
    assert code in {finding.code for finding in inspection.findings}
    assert inspection.sound != any(KINDS[finding.code].stops for finding in inspection.findings)


@pytest.mark.parametrize(("spoil", "code"), SPOILT.values(), ids=SPOILT)
def test_what_inspection_refuses_training_refuses(spoil, code, folder):
    def train():
        manifest = load_manifest(folder.write())
        steps = [
            LoadScand(["image", "label"]),
            SameGridd(["image", "label"]),
            KnownLabelsd("label", manifest.labels),
            ResampleToSpacingd(["image", "label"], manifest.spacing, "S", mode=["bilinear", "nearest"]),
            Windowd("image", **manifest.window),
        ]
        return Compose(steps)(manifest.training[1])

    spoil(folder)
    if KINDS[code].stops:
        with pytest.raises((ValueError, RuntimeError)):
            train()
    else:
        train()


def test_axes_that_are_named_nowhere_are_used_where_the_manifest_says_so(folder):
    unplaced(folder)
    with pytest.raises(ValueError, match="/training/1/image, /training/1/label: a header with neither sform nor qform"):
        load_manifest(folder.write())
    folder.manifest["assume_affine"] = True
    assert load_manifest(folder.write()).assume_affine
    assert folder.inspect().sound
    assert ("header", "b") in folder.found()


def test_everything_is_listed_at_once(folder):
    for spoil in (cut_off, lambda f: save(f.label("b"), LABEL * 7), lambda f: f.image("c").unlink()):
        spoil(folder)
    folder.manifest["duplicates"] = [["a", "nobody"]]
    found = folder.found()
    assert set(found) == {("manifest", ""), ("damaged", "b"), ("labels", "b"), ("missing", "c")}


def test_a_manifest_whose_records_cannot_be_told_is_told_alone(folder):
    folder.manifest["training"][0]["image"] = "../elsewhere.nii.gz"
    inspection = folder.inspect()
    assert [finding.code for finding in inspection.findings] == ["manifest"]
    assert "must be a relative path inside the data folder" in inspection.findings[0].text


def test_equal_voxels_under_two_names_are_found_whatever_the_files(folder):
    save(folder.root / "images" / "c.nii", IMAGE)  # as a, not compressed
    folder.manifest["training"][2]["image"] = "images/c.nii"
    folder.image("c").unlink()
    inspection = folder.inspect()
    assert {("duplicate", "a"), ("duplicate", "c")} <= {(found.code, found.case_id) for found in inspection.findings}
    assert write_page(inspection, folder.root).read_text().count('<figure class="stops">') == 2
    folder.manifest["duplicates"] = [["a", "c"]]
    assert "duplicate" not in dict(folder.found())


def test_scans_of_another_data_set_are_found_by_their_voxels(folder, tmp_path_factory):
    other = Folder(tmp_path_factory.mktemp("other"))
    for name, offset in zip("abc", (2, 40, 50), strict=True):
        save(other.image(name), IMAGE + offset)
    write_page(other.inspect(), other.root)
    assert folder.found(against=[other.root / "inspection.json"]) == [("overlap", "c")]


def test_a_single_slice_and_a_wrong_slice_axis_are_notes(folder):
    save(folder.image("b"), IMAGE[..., :1])
    save(folder.label("b"), LABEL[..., :1])
    assert set(folder.found()) == {("thin", "b"), ("empty", "b")}
    folder.manifest["slice_axis"] = "A"
    assert ("slice_axis", "a") in folder.found()


def test_of_an_organ_that_was_not_contoured_no_volume_is_told(folder):
    folder.manifest["labels"]["2"] = "aorta"
    folder.manifest["training"][0]["known_classes"] = [1]
    partly, whole, _ = (case.facts["millilitres"] for case in folder.inspect().cases)
    assert list(partly) == ["heart"]
    assert whole["aorta"] == 0


def test_a_window_of_another_scale_is_noticed(folder):
    folder.manifest["window"] = {"hu": [-160, 0.5]}
    assert {code for code, _ in folder.found()} == {"window"}
    folder.manifest["window"] = {"hu": [5000, 6000]}
    assert {code for code, _ in folder.found()} == {"intensities"}


def test_what_the_manifest_expects_is_compared(folder):
    folder.manifest["expected"] = {
        "n_cases": 4,
        "axcodes": ["RAS"],
        "slices": [7, 9],
        "spacing_mm": [[4, 1, 1], [4.5, 2, 2]],
        "known_bad": ["c"],
    }
    texts = [finding.text for finding in folder.inspect().findings]
    assert texts.count("its axes are LPS, expected are RAS") == 3
    assert texts.count("it has 6 slices, expected are 7 to 9") == 3
    assert sum("expected are [4, 1, 1] to [4.5, 2, 2]" in text for text in texts) == 3
    assert "n_cases is 3, expected are 4" in texts
    assert "the case is known to be bad; leave it out" in texts


def test_an_inspection_goes_on_where_it_was_stopped(folder, monkeypatch):
    folder.inspect()
    read = []
    monkeypatch.setattr("medssl.inspection.case.LoadScan.__call__", lambda self, file, frame: read.append(file))
    folder.inspect()
    assert read == []
    save(folder.image("b"), IMAGE * 2)
    folder.inspect()
    assert read == [str(folder.image("b")), str(folder.label("b"))]


def test_a_picture_shows_the_fullest_slice_upright(folder):
    bright = np.zeros(IMAGE.shape, np.float32)
    bright[:, :12, 3] = 100  # toward anterior, as y falls along P
    save(folder.image("b"), bright)
    label = np.zeros(IMAGE.shape, np.uint8)
    label[:, :, 3] = 1
    save(folder.label("b"), label)
    picture = Image.open(io.BytesIO(base64.b64decode(folder.inspect().cases[1].thumbnail)))
    assert picture.size == (133, 160)
    pixels = np.asarray(picture).mean(axis=(1, 2))
    assert pixels[:70].mean() > pixels[90:].mean() + 50


def test_the_command_lists_writes_and_fails_where_something_stops_a_case(folder, caplog, tmp_path):
    output = tmp_path / "report"
    arguments = ["inspect", str(folder.write()), "--output", str(output), "--workers", "1"]
    with caplog.at_level("INFO"):
        assert main(arguments) == 0
        cut_off(folder)
        assert main(arguments) == 1
    assert f"refused [damaged] b: {folder.image('b')}: it cannot be read to its end" in caplog.text
    facts = json.loads((output / "inspection.json").read_text())
    assert [finding["code"] for finding in facts["findings"]] == ["damaged"]
    assert not facts["sound"]
    page = (output / "inspection.html").read_text()
    assert page.count("data:image/png;base64,") == 2
    assert "no picture" in page
    assert "http" not in page.replace("https://monai", "")


def test_names_in_a_page_are_text_and_no_code(folder):
    folder.manifest["name"] = "<script>alert(1)</script>"
    page = write_page(folder.inspect(), folder.root).read_text()
    assert "<script>" not in page
    assert "&lt;script&gt;" in page


def test_every_kind_stands_in_the_docs_as_it_is_here():
    text = (resource("data_manifests").parent / "docs" / "inspection.md").read_text()
    rows = [f"| `{code}` | {'yes' if k.stops else 'no'} | {k.meaning} | {k.remedy} |" for code, k in KINDS.items()]
    assert "\n".join(rows) in text


def test_text_says_case_file_and_what_to_do_once(folder):
    cut_off(folder)
    first, summary = lines(folder.inspect())
    assert first.count(str(folder.image("b"))) == 1
    assert first.endswith("copy it from its source again")
    assert summary == "hearts: 3 cases, 1 with something that stops them"


@pytest.mark.data("misc_formats")
@pytest.mark.parametrize(
    ("name", "label", "code"),
    [
        ("bad/truncated.nii.gz", None, "damaged"),
        ("bad/empty.nii.gz", None, "unreadable"),
        ("bad/text.nii.gz", None, "unreadable"),
        ("bad/nan.nii.gz", None, "intensities"),
        ("bad/constant.nii.gz", None, "intensities"),
        ("bad/one_slice.nii.gz", None, "thin"),
        ("bad/two_d.nii.gz", None, "not_a_volume"),
        ("bad/zero_spacing.nii.gz", None, "geometry"),
        ("totalsegmentator/example_ct_sm.nii.gz", "bad/label_shape_mismatch.nii.gz", "grid"),
        ("totalsegmentator/example_ct_sm.nii.gz", "totalsegmentator/example_seg.nii.gz", "labels"),
        ("odd/shear.nii.gz", None, "geometry"),
        ("odd/complex.nii.gz", None, "not_a_volume"),
    ],
)
def test_real_files_are_found_out(name, label, code, folder, data_set):
    record = {"case_id": "x", "subject_id": "x", "image": name} | ({"label": label} if label else {})
    folder.manifest |= {"training": [], ("training" if label else "unlabeled"): [record]}
    assert code in dict(folder.found(root=data_set))


def test_headers_alone_tell_geometry_and_lengths_and_are_no_inspection_of_the_voxels(folder):
    cut = folder.image("a").read_bytes()
    folder.image("a").write_bytes(cut[: len(cut) // 2])
    save(folder.label("b"), LABEL, np.diag([-1.0, -1.0, 4.0, 1.0]))
    spoilt = IMAGE.copy()
    spoilt[0, 0, 0] = np.nan
    save(folder.image("c"), spoilt)
    assert folder.found(headers=True) == [("damaged", "a"), ("grid", "b")]
    assert folder.inspect(headers=True).cases[2].facts == {
        "shape": [20, 24, 6],
        "axes": "LPS",
        "slices": 6,
        "spacing": [5.0, 1.0, 1.0],
    }
    assert folder.found() == [("damaged", "a"), ("grid", "b"), ("intensities", "c")]


def test_an_inspection_of_headers_has_nothing_to_compare(folder, tmp_path_factory):
    other = Folder(tmp_path_factory.mktemp("other"))
    write_page(other.inspect(headers=True), other.root)
    with pytest.raises(ValueError, match="has no voxels to compare: inspect hearts again, not by headers alone"):
        folder.inspect(against=[other.root / "inspection.json"])
    assert not (folder.root / "inspection").exists()  # before a file was read


def test_a_checksum_of_the_manifest_is_held_against_the_file(folder):
    digest = hashlib.sha256(folder.image("a").read_bytes()).hexdigest()
    folder.manifest["training"][0]["sha256"] = digest
    folder.manifest["training"][1]["sha256"] = digest
    (finding,) = folder.inspect().findings
    assert (finding.code, finding.case_id) == ("damaged", "b")
    assert f"its SHA-256 must be {digest}, it is" in finding.text
