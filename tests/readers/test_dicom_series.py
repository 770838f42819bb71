import shutil

import numpy as np
import pydicom
import pytest
from dicom_files import write_series
from pydicom.uid import generate_uid

from medssl.readers import ScanError, read_scan


def refusal(folder):
    with pytest.raises(ScanError) as caught:
        read_scan(folder)
    return caught.value


def test_a_series_is_stacked_by_position_whatever_its_file_names(tmp_path):
    voxels = write_series(tmp_path / "series")
    found = read_scan(tmp_path / "series")
    np.testing.assert_array_equal(np.asanyarray(found.dataobj), voxels.T)
    np.testing.assert_allclose(found.affine, np.diag([-0.5, -0.5, 2, 1]), atol=1e-6)


def test_what_is_no_image_in_the_folder_is_passed_over(tmp_path):
    voxels = write_series(tmp_path / "series")
    (tmp_path / "series" / "notes.txt").write_text("notes")
    contours = pydicom.dcmread(next((tmp_path / "series").glob("*_003.dcm")))
    contours.Modality = "RTSTRUCT"
    contours.save_as(tmp_path / "series" / "contours.dcm")
    assert read_scan(tmp_path / "series").shape == voxels.T.shape


def test_missing_slices_are_no_wider_spacing(tmp_path):
    write_series(tmp_path / "series")
    for number in (3, 4):
        next((tmp_path / "series").glob(f"*_{number:03d}.dcm")).unlink()
    error = refusal(tmp_path / "series")
    assert error.code == "series"
    assert "slices must lie 2 mm apart as most do, they lie 2 to 6 mm apart" in str(error)


def test_a_slice_that_stands_twice_is_refused(tmp_path):
    write_series(tmp_path / "series")
    file = next((tmp_path / "series").glob("*_003.dcm"))
    shutil.copy(file, file.with_name("copy.dcm"))
    assert "1 of 9 slices lie where another one does" in str(refusal(tmp_path / "series"))


def test_a_tilted_gantry_is_no_stack_at_right_angles(tmp_path):
    write_series(tmp_path / "series", shift=2 * np.tan(np.radians(15)))
    error = refusal(tmp_path / "series")
    assert error.code == "series"
    assert "15.0 degrees" in str(error)


def test_two_series_in_one_folder_are_named_and_not_mixed(tmp_path):
    uids = [generate_uid(), generate_uid()]
    for uid, depth in zip(uids, (3, 5), strict=True):
        write_series(tmp_path / "series", depth, uid)
    error = refusal(tmp_path / "series")
    assert error.code == "series"
    assert all(f"{uid} ({count} files)" in str(error) for uid, count in zip(uids, (3, 5), strict=True))


def test_slices_of_another_size_are_refused(tmp_path):
    write_series(tmp_path / "series")
    file = next((tmp_path / "series").glob("*_003.dcm"))
    slice_ = pydicom.dcmread(file)
    slice_.Rows, slice_.Columns = slice_.Columns, slice_.Rows
    slice_.save_as(file)
    assert "slices must be alike" in str(refusal(tmp_path / "series"))


@pytest.mark.parametrize("share", [0.5, 0.99])
def test_a_slice_that_is_cut_off_is_named(share, tmp_path):
    write_series(tmp_path / "series")
    file = next((tmp_path / "series").glob("*_003.dcm"))
    whole = file.read_bytes()
    file.write_bytes(whole[: int(len(whole) * share)])
    error = refusal(tmp_path / "series")
    assert (error.code, error.file) == ("damaged", str(file))


def test_nothing_of_the_patient_is_said(tmp_path):
    write_series(tmp_path / "series")
    for file in (tmp_path / "series").glob("*.dcm"):
        slice_ = pydicom.dcmread(file)
        slice_.PatientName, slice_.PatientID = "Doe^Jane", "12345678"
        slice_.save_as(file)
    next((tmp_path / "series").glob("*_003.dcm")).unlink()
    assert "Jane" not in str(refusal(tmp_path / "series"))
    assert "12345678" not in str(refusal(tmp_path / "series"))


@pytest.mark.data("misc_formats")
def test_a_file_of_several_frames_is_a_series_of_its_own(data_set, tmp_path):
    shutil.copy(data_set / "odd/enh.dcm", tmp_path / "first.dcm")
    assert read_scan(tmp_path).shape == read_scan(tmp_path / "first.dcm").shape == (64, 64, 6)
    shutil.copy(data_set / "odd/enh.dcm", tmp_path / "second.dcm")
    assert "there must be one file of several frames, there are 2" in str(refusal(tmp_path))
