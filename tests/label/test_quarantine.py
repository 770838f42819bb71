import gzip
import os

import nibabel as nib
import numpy as np
import pytest

from medssl.label.quarantine import left_out, quarantine


@pytest.fixture
def images(tmp_path):
    """Two scans in order, and one of every kind that is not."""
    voxels = np.random.default_rng(0).normal(size=(3, 8, 8, 4)).astype(np.float32)
    found = {}
    for name, content in {"a": voxels[0], "b": voxels[1], "copy": voxels[0], "flat": np.ones((8, 8, 4), "f4")}.items():
        found[name] = tmp_path / f"{name}.nii.gz"
        nib.save(nib.Nifti1Image(content, np.eye(4)), found[name])
    found["cut"], found["text"] = tmp_path / "cut.nii.gz", tmp_path / "text.nii"
    found["cut"].write_bytes(found["b"].read_bytes()[:-300])
    found["text"].write_text("no scan")
    return found


def test_what_cannot_be_used_is_left_out_with_the_reason(images, tmp_path):
    apart = quarantine(images, [], tmp_path / "scans.json")
    assert apart.keys() == {"copy", "flat", "cut", "text"}
    assert "the same voxels as a" in apart["copy"]
    assert "they are all 1" in apart["flat"]
    assert "cannot be read to its end" in apart["cut"]
    assert "it is no scan" in apart["text"]
    assert left_out(tmp_path / "scans.json") == apart


def test_of_two_equal_scans_the_annotated_one_stays(images, tmp_path):
    file = tmp_path / "scans.json"
    assert "copy" in quarantine(images, [], file)
    assert "the same voxels as copy" in quarantine(images, ["copy"], file)["a"]
    assert "a" in left_out(file)


def test_a_scan_is_read_again_only_where_it_has_changed(images, tmp_path, monkeypatch):
    file = tmp_path / "scans.json"
    quarantine(images, [], file)
    images["cut"].write_bytes(gzip.compress(gzip.decompress(images["b"].read_bytes())[:-4] + b"\0\0\0@"))
    os.utime(images["cut"], ns=(1, 1))
    read = []
    looked = quarantine.__globals__["look_at"]
    monkeypatch.setitem(quarantine.__globals__, "look_at", lambda image: read.append(image.name) or looked(image))
    assert "cut" not in quarantine(images, [], file)
    assert read == ["cut.nii.gz"]


def test_before_anything_was_looked_at_nothing_is_left_out(tmp_path):
    assert left_out(tmp_path / "scans.json") == {}
