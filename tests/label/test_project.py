import shutil

import nibabel as nib
import numpy as np
import pytest

from medssl.data import write_phantoms
from medssl.label.project import Project

LABELS = ["rv", "myocardium", "lv"]
TINY = {"width": 4, "max_epochs": 1, "steps_per_epoch": 2}


class Folder:
    """Phantoms in a folder, as an annotation server has them."""

    def __init__(self, root, phantoms):
        self.truth = {file.name.removesuffix(".nii.gz"): file for file in (phantoms / "labelsTr").glob("*_ed.nii.gz")}
        for case in self.truth:
            shutil.copy(phantoms / "imagesTr" / f"{case}.nii.gz", root)
        (root / "labels").mkdir()
        self.root, self.annotated = root, {}
        self.project = Project(root, LABELS, largest=64)

    def annotate(self, case):
        self.annotated[case] = self.root / "labels" / f"{case}.nii.gz"
        shutil.copy(self.truth[case], self.annotated[case])

    def manifest(self):
        return self.project.manifest({case: self.root / f"{case}.nii.gz" for case in self.truth}, self.annotated)


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory):
    return write_phantoms(tmp_path_factory.mktemp("phantoms"), num_subjects=5).parent


@pytest.fixture
def folder(phantoms, tmp_path):
    return Folder(tmp_path, phantoms)


def test_from_no_annotation_to_a_mask_on_the_scans_own_grid(folder, tmp_path):
    project = folder.project
    assert list(project.next_scans([])) == []
    weights = project.pretrain(folder.manifest(), "pcl", num_slices=4, **TINY)
    assert project.weights("pretrain") == weights
    project.embed(folder.manifest())
    first = next(project.next_scans([]))
    folder.annotate(first.case_id)
    second = next(project.next_scans([first.case_id]))
    assert second.nearest == first.case_id
    project.finetune(folder.manifest(), **TINY)
    assert set(project.measure_uncertainty(folder.manifest())) == set(folder.truth) - {first.case_id}
    third = next(project.next_scans([first.case_id], with_uncertainty=True))
    assert 0 <= third.uncertainty <= 1
    image = tmp_path / f"{third.case_id}.nii.gz"
    file, organs = project.segment(image, tmp_path / "masks")
    assert organs == ["background", *LABELS]
    mask = nib.load(file)
    assert mask.shape == nib.load(image).shape
    np.testing.assert_array_equal(mask.affine, nib.load(image).affine)
    assert mask.get_data_dtype() == np.uint8


def test_a_training_that_has_begun_is_not_used_before_it_has_ended(folder, monkeypatch):
    project = folder.project
    first = project.pretrain(folder.manifest(), "pcl", num_slices=4, **TINY)

    def stop(**options):
        raise KeyboardInterrupt

    monkeypatch.setattr("medssl.label.project.run", stop)
    with pytest.raises(KeyboardInterrupt):
        project.pretrain(folder.manifest(), "simclr", num_slices=4, **TINY)
    assert project.weights("pretrain") == first


def test_a_training_that_has_ended_and_is_asked_for_again_is_left_as_it_is(folder):
    first = folder.project.pretrain(folder.manifest(), "pcl", num_slices=4, **TINY)
    before = first.read_bytes()
    assert folder.project.pretrain(folder.manifest(), "pcl", num_slices=4, **TINY) == first
    assert first.read_bytes() == before


def test_spacing_stays_that_of_the_first_manifest(folder):
    before = folder.manifest()
    coarse = nib.load(next(folder.root.glob("*.nii.gz")))
    for number, name in enumerate(("far_a", "far_b", "far_c", "far_d", "far_e", "far_f")):
        wide = nib.Nifti1Image(np.asarray(coarse.dataobj) + number, coarse.affine @ np.diag([3, 3, 1, 1.0]))
        nib.save(wide, folder.root / f"{name}.nii.gz")
        folder.truth[name] = None
    assert folder.manifest().spacing == before.spacing


def test_slices_hold_the_scans_and_have_sides_that_five_levels_halve(folder):
    wide = Project(folder.root, LABELS, largest=512)
    assert wide.image_size(wide.manifest({"a": next(folder.root.glob("*.nii.gz"))}, {})) == [96, 96]
    assert folder.project.image_size(folder.manifest()) == [64, 64]


def test_what_has_to_come_first_is_said(folder, tmp_path):
    manifest = folder.manifest()
    with pytest.raises(ValueError, match="no scan has a final annotation yet"):
        folder.project.finetune(manifest)
    with pytest.raises(FileNotFoundError, match="no network has been fine-tuned yet"):
        folder.project.segment(tmp_path / "x.nii.gz", tmp_path)
    with pytest.raises(FileNotFoundError, match="nothing has been pre-trained yet"):
        folder.project.embed(manifest)
    with pytest.raises(FileNotFoundError, match="no network has been fine-tuned yet"):
        folder.project.measure_uncertainty(manifest)


def test_a_scan_that_cannot_be_read_stops_nothing(folder):
    images = {case: folder.root / f"{case}.nii.gz" for case in folder.truth}
    images["broken"] = folder.root / "broken.nii.gz"
    images["broken"].write_bytes(next(iter(images.values())).read_bytes()[:-1000])
    project = folder.project
    manifest = project.manifest(images, {})
    assert {record["case_id"] for record in manifest.unlabeled} == set(folder.truth)
    assert "cannot be read to its end" in project.left_out["broken"]
    with pytest.raises(ValueError, match=r"none of the 1 scans can be used: .*broken\.nii\.gz"):
        project.manifest({"broken": images["broken"]}, {})


def test_scans_of_one_person_are_told_by_their_names(folder):
    assert Project(folder.root, LABELS).subject_of("patient01_ed") == "patient01_ed"
    project = Project(folder.root, LABELS, pattern="{subject}_{phase}")
    assert project.subject_of("patient01_ed") == "patient01"
    assert project.subject_of("somebody") == "somebody"
    assert Project(folder.root, LABELS, pattern=r"{subject:sub-\d+}*").subject_of("sub-12_T1w") == "sub-12"
    images = {case: folder.root / f"{case}.nii.gz" for case in folder.truth}
    assert project.manifest(images, {}).subjects == {case.removesuffix("_ed") for case in images}
    with pytest.raises(ValueError, match=r"must have the field \{subject\}.*got '\{case\}'"):
        Project(folder.root, LABELS, pattern="{case}")
    with pytest.raises(ValueError, match="cannot be read"):
        Project(folder.root, LABELS, pattern="{subject:(}")


def test_nobody_is_suggested_twice_before_everybody_was_once(phantoms, tmp_path):
    for file in (phantoms / "imagesTr").glob("*.nii.gz"):
        shutil.copy(file, tmp_path)
    images = {file.name.removesuffix(".nii.gz"): file for file in tmp_path.glob("*.nii.gz")}
    project = Project(tmp_path, LABELS, largest=64, pattern="{subject}_{phase}")
    manifest = project.manifest(images, {})
    project.pretrain(manifest, "lrc", num_slices=4, **TINY)
    project.embed(manifest)
    order = [suggestion.subject_id for suggestion in project.next_scans([])]
    assert len(order) == 10
    assert len(set(order[:5])) == len(set(order[5:])) == 5
