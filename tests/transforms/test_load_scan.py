import warnings

import nibabel as nib
import numpy as np
import pytest
from monai.transforms import LoadImage

from medssl.readers import ScanError
from medssl.transforms import LoadScan, LoadScand


def save(folder, shape=(4, 5, 6), affine=None):
    voxels = np.random.default_rng(0).integers(-999, 999, shape).astype(np.int16)
    affine = np.diag([1.5, 1.5, 10.0, 1.0]) if affine is None else affine
    nib.save(nib.Nifti1Image(voxels, affine), folder / "scan.nii.gz")
    return str(folder / "scan.nii.gz")


def test_a_sound_scan_is_loaded_as_monai_loads_it(tmp_path):
    file = save(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MONAI's, of readers that are not asked for
        theirs = LoadImage("NibabelReader", image_only=True, ensure_channel_first=True)(file)
    ours = LoadScan()(file)
    assert ours.dtype == theirs.dtype
    np.testing.assert_array_equal(ours, theirs)
    np.testing.assert_array_equal(ours.affine, theirs.affine)
    assert ours.meta.keys() == theirs.meta.keys() | {"frame"}
    assert ours.meta["filename_or_obj"] == file


def test_a_record_says_which_frame_is_loaded(tmp_path):
    file = save(tmp_path, (4, 5, 6, 3))
    frames = np.asanyarray(nib.load(file).dataobj)
    loaded = LoadScand("image")({"image": file, "frame": 3, "case_id": "a"})
    assert loaded["image"].shape == (1, 4, 5, 6)
    np.testing.assert_array_equal(loaded["image"][0], frames[..., 2])
    with pytest.raises(
        ScanError, match="it holds 3 frames, counted from 1, and none is named; give the record a frame"
    ):
        LoadScand("image")({"image": file})


def test_an_image_without_a_label_is_loaded_where_that_is_allowed(tmp_path):
    record = {"image": save(tmp_path)}
    assert LoadScand(["image", "label"], allow_missing_keys=True)(record).keys() == {"image"}
    with pytest.raises(KeyError, match="label"):
        LoadScand(["image", "label"])(record)
