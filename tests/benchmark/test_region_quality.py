import nibabel as nib
import numpy as np
import pytest

from medssl.__main__ import main
from medssl.benchmark import compare_superpixels
from medssl.benchmark.region_quality import quality
from medssl.data import load_manifest, write_phantoms


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    return load_manifest(write_phantoms(tmp_path_factory.mktemp("phantoms"), num_subjects=5))


def test_regions_that_are_the_organs_can_be_segmented_perfectly_and_one_region_not_at_all(manifest):
    label = np.zeros((2, 8, 8), int)
    label[:, 1:3, 1:3], label[:, 5:7, 4:8] = 1, 2
    perfect, whole = quality(label.copy(), label, manifest), quality(np.zeros_like(label), label, manifest)
    assert perfect["regions"] == 3
    assert (perfect["right ventricle"], perfect["myocardium"]) == (1, 1)
    assert np.isnan(perfect["left ventricle"])
    assert (whole["right ventricle"], whole["myocardium"]) == (0, 0)
    assert whole["median size"] == 64


def test_a_region_counts_as_what_most_of_it_is(manifest):
    label = np.array([[[1, 1, 0, 0, 0, 0]]])
    regions = np.array([[[0, 0, 0, 1, 1, 1]]])
    assert quality(regions, label, manifest)["right ventricle"] == pytest.approx(4 / 5)


def test_larger_regions_are_fewer_and_follow_less(manifest):
    table = compare_superpixels(manifest, [(5, 0.5, 10), (5, 0.5, 400)], (None, 2.0, 2.0), num_cases=1)
    fine, coarse = table.iloc[0], table.iloc[1]
    assert fine["regions"] > coarse["regions"]
    assert fine["median size"] < coarse["median size"]
    assert fine["mean Dice"] > coarse["mean Dice"]


def test_labels_that_lie_elsewhere_are_refused(tmp_path):
    moved = load_manifest(write_phantoms(tmp_path, num_subjects=5))
    file = moved.training[0]["label"]
    label = nib.load(file)
    affine = label.affine.copy()
    affine[0, 3] += 30  # mm
    nib.save(nib.Nifti1Image(np.asarray(label.dataobj), affine), file)
    with pytest.raises(RuntimeError) as raised:
        compare_superpixels(moved, [(5, 0.5, 10)], num_cases=1)
    assert "image and label must lie on one grid, got affines 30 mm apart" in str(raised.value.__cause__)


def test_the_command_prints_the_table_and_draws_a_slice(manifest, tmp_path, caplog):
    arguments = ["superpixels", str(manifest.path), "--spacing", "None", "3", "3", "--scale", "20", "--cases", "1"]
    with caplog.at_level("INFO"):
        assert main([*arguments, "--output", str(tmp_path / "regions.png")]) == 0
    assert "mean Dice" in caplog.text
    assert (tmp_path / "regions.png").read_bytes().startswith(b"\x89PNG")
