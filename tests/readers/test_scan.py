import gzip
import warnings

import nibabel as nib
import numpy as np
import pytest
import SimpleITK

from medssl.readers import ScanError, doubts, read_scan

AFFINE = np.diag([1.5, 1.5, 10.0, 1.0])


def scan(seed=0, shape=(6, 7, 8)):
    voxels = np.random.default_rng(seed).integers(-999, 999, shape).astype(np.int16)
    return nib.Nifti1Image(voxels, AFFINE)


def save(folder, name="scan.nii.gz", image=None):
    image = scan() if image is None else image
    nib.save(image, folder / name)
    return folder / name


def refusal(file, **kwargs):
    with pytest.raises(ScanError) as caught:
        read_scan(file, **kwargs)
    assert str(caught.value).startswith(f"{file}: ")
    return caught.value.code


def voxels_of(image):
    return np.asanyarray(image.dataobj)


@pytest.mark.parametrize("name", ["scan.nii", "scan.nii.gz", "scan.mgz"])
def test_what_was_written_is_read(name, tmp_path):
    image = nib.MGHImage(voxels_of(scan()), AFFINE) if name.endswith("mgz") else scan()
    found = read_scan(save(tmp_path, name, image))
    np.testing.assert_array_equal(voxels_of(found), voxels_of(image))
    np.testing.assert_allclose(found.affine, AFFINE, atol=1e-6)


@pytest.mark.parametrize("name", ["scan.nrrd", "scan.mha", "scan.mhd"])
def test_the_formats_of_itk_are_read_in_the_axes_of_nifti(name, tmp_path):
    image = SimpleITK.ReadImage(str(save(tmp_path)))
    SimpleITK.WriteImage(image, str(tmp_path / name))
    found = read_scan(tmp_path / name)
    np.testing.assert_array_equal(voxels_of(found), voxels_of(scan()))
    np.testing.assert_allclose(found.affine, AFFINE, atol=1e-6)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int32, np.float32, np.float64])
def test_every_real_type_keeps_its_values(dtype, tmp_path):
    image = nib.Nifti1Image(np.arange(210).reshape(5, 6, 7).astype(dtype), AFFINE)
    np.testing.assert_array_equal(voxels_of(read_scan(save(tmp_path, image=image))), voxels_of(image))


def test_slope_and_intercept_are_applied(tmp_path):
    image = scan()
    image.header.set_slope_inter(2, -1024)
    file = save(tmp_path, image=image)
    np.testing.assert_allclose(voxels_of(read_scan(file)), 2 * voxels_of(image).astype(int) - 1024)


@pytest.mark.parametrize(
    "name", ["sc\u00e4n \u00e9.nii.gz", "\u6383\u63cf.nii.gz", "\U0001fac0 heart.nii", f"{'a' * 248}.nii.gz"]
)
def test_any_name_is_read(name, tmp_path):
    assert read_scan(save(tmp_path, name)).shape == (6, 7, 8)


def test_a_plain_file_under_a_compressed_name_says_so(tmp_path):
    save(tmp_path, "scan.nii").rename(tmp_path / "scan.nii.gz")
    with pytest.raises(ScanError, match="is not a gzip file"):
        read_scan(tmp_path / "scan.nii.gz")


def test_the_file_that_is_asked_for_is_read_and_not_its_sibling(tmp_path):
    save(tmp_path, "scan.nii", scan(seed=1))
    np.testing.assert_array_equal(voxels_of(read_scan(save(tmp_path, "scan.nii.gz"))), voxels_of(scan()))


@pytest.mark.parametrize("name", ["scan.nii", "scan.nii.gz", "scan.nrrd", "scan.mha"])
def test_a_file_that_is_cut_off_is_damaged(name, tmp_path):
    whole = save(tmp_path, "whole.nii", scan(shape=(40, 40, 40)))
    SimpleITK.WriteImage(SimpleITK.ReadImage(str(whole)), str(tmp_path / name))
    whole = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(whole[: len(whole) * 4 // 5])
    assert refusal(tmp_path / name) == "damaged"


def test_one_flipped_byte_is_found_by_the_checksum(tmp_path):
    file = save(tmp_path, image=scan(shape=(40, 40, 40)))
    data = bytearray(file.read_bytes())
    refused = 0
    for place in np.random.default_rng(0).integers(400, len(data) - 8, 20):
        flipped = bytearray(data)
        flipped[place] ^= 4
        file.write_bytes(flipped)
        refused += refusal(file) == "damaged"
    assert refused == 20


@pytest.mark.parametrize("content", [b"", b"this is a text\n" * 40, b"\x1f\x8b no gzip"])
def test_what_is_no_scan_is_unreadable(content, tmp_path):
    (tmp_path / "scan.nii.gz").write_bytes(content)
    assert refusal(tmp_path / "scan.nii.gz") == "unreadable"


def test_a_name_that_says_no_format_and_a_folder_without_dicom_are_unreadable(tmp_path):
    (tmp_path / "scan.mif").write_bytes(b"mrtrix image")
    (tmp_path / "scan.nii.gz").mkdir()
    assert refusal(tmp_path / "scan.mif") == refusal(tmp_path / "scan.nii.gz") == "unreadable"


def test_a_missing_file_is_missing(tmp_path):
    assert refusal(tmp_path / "scan.nii.gz") == "missing"


def promise(shape, dtype=64):
    """The bytes of a header that promises a shape of float64 voxels, and nothing behind it."""
    header = nib.Nifti1Header()
    header["dim"][: len(shape) + 1] = [len(shape), *shape]
    header["datatype"], header["bitpix"], header["vox_offset"] = dtype, 64, 352
    header["sform_code"] = 1
    header["srow_x"], header["srow_y"], header["srow_z"] = AFFINE[:3]
    return header.binaryblock + bytes(4)


def test_a_header_that_promises_a_terabyte_is_refused_without_reading_or_reserving_it(tmp_path):
    (tmp_path / "scan.nii.gz").write_bytes(gzip.compress(promise([30000, 30000, 200])))
    assert refusal(tmp_path / "scan.nii.gz") == "too_large"


def test_a_file_that_unpacks_to_far_more_than_its_header_promises_is_refused(tmp_path):
    (tmp_path / "scan.nii.gz").write_bytes(gzip.compress(promise([2, 2, 2]) + bytes(2**25), 1))
    assert refusal(tmp_path / "scan.nii.gz") == "too_large"


@pytest.mark.parametrize("shape", [(4, 5), (4, 5, 6, 1, 3), (4, 0, 6)])
def test_what_has_not_three_axes_is_no_volume(shape, tmp_path):
    assert refusal(save(tmp_path, image=nib.Nifti1Image(np.zeros(shape, np.int16), AFFINE))) == "not_a_volume"


def test_colours_and_complex_numbers_are_no_volume(tmp_path):
    colours = np.zeros((4, 5, 6), [("R", "u1"), ("G", "u1"), ("B", "u1")])
    for voxels in (colours, np.zeros((4, 5, 6), np.complex64)):
        assert refusal(save(tmp_path, image=nib.Nifti1Image(voxels, AFFINE))) == "not_a_volume"


def test_of_frames_the_named_one_is_read_and_none_is_guessed(tmp_path):
    frames = scan(shape=(4, 5, 6, 3))
    file = save(tmp_path, image=frames)
    assert refusal(file) == refusal(file, frame=0) == refusal(file, frame=4) == "not_a_volume"
    np.testing.assert_array_equal(voxels_of(read_scan(file, frame=2)), voxels_of(frames)[..., 1])


def test_one_volume_needs_no_frame_and_minds_none(tmp_path):
    file = save(tmp_path, image=scan(shape=(4, 5, 6, 1)))
    assert read_scan(file).shape == read_scan(file, frame=12).shape == (4, 5, 6)


@pytest.mark.parametrize(
    "affine",
    [
        np.diag([1.0, 1.0, 0.0, 1.0]),
        np.diag([1.0, 1.0, np.nan, 1.0]),
        np.array([[1.0, 0, 0, 0], [0, 1, 0.3, 0], [0, 0, 1, 0], [0, 0, 0, 1]]),
        np.array([[1.0, 0, 1, 0], [0, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 1]]),
    ],
    ids=["no size", "not a number", "sheared", "flat"],
)
def test_a_broken_affine_is_refused(affine, tmp_path):
    file = save(tmp_path, "scan.nii")
    data = bytearray(file.read_bytes())
    data[254:256] = np.array([1], "<i2").tobytes()  # sform_code
    data[280:328] = affine[:3].astype("<f4").tobytes()
    file.write_bytes(data)
    assert refusal(file) == "geometry"


def test_voxels_whose_header_gives_them_no_size_are_refused(tmp_path):
    file = save(tmp_path, "scan.nii")
    data = bytearray(file.read_bytes())
    data[252:256] = bytes(4)  # neither qform nor sform
    data[80:92] = bytes(12)  # pixdim
    file.write_bytes(data)
    assert refusal(file) == "geometry"


@pytest.mark.parametrize("angle", [0.0, 0.4])
@pytest.mark.parametrize("flip", [1, -1])
def test_oblique_and_left_handed_axes_are_kept(angle, flip, tmp_path):
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, flip]])
    affine = AFFINE.copy()
    affine[:3, :3] = turn @ AFFINE[:3, :3]
    np.testing.assert_allclose(
        read_scan(save(tmp_path, image=nib.Nifti1Image(voxels_of(scan()), affine))).affine, affine, atol=1e-6
    )


# The real files.


def oracle(path):
    """Voxels and affine of a file, by SimpleITK."""
    if path.is_dir():
        reader = SimpleITK.ImageSeriesReader()
        reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(path)))
        image = reader.Execute()
    else:
        image = SimpleITK.ReadImage(str(path))
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) @ np.diag(image.GetSpacing())
    affine[:3, 3] = image.GetOrigin()
    return SimpleITK.GetArrayFromImage(image).T, np.diag([-1, -1, 1, 1]) @ affine


@pytest.mark.data("misc_formats")
@pytest.mark.parametrize(
    "pattern",
    [
        "nrrd/*.nrrd",
        "mha/*.m*",
        "odd/FLAIR.nrrd",
        "odd/enh.dcm",
        "orientations/*",
        "monai/*",
        "totalsegmentator/*",
        "mr_dicom",
        "chaos_ct_dicom/DICOM_anon",
        "ibsi_thorax_ct/dicom/image",
        "ibsi_thorax_ct/nifti/*/*.nii.gz",
    ],
)
def test_voxels_and_geometry_of_real_scans_are_those_of_simpleitk(pattern, data_set):
    paths = sorted(data_set.glob(pattern))
    assert paths
    for path in paths:
        found = read_scan(path)
        voxels, affine = oracle(path)
        np.testing.assert_allclose(voxels_of(found), voxels, rtol=1e-6)
        np.testing.assert_allclose(found.affine, affine, atol=1e-4)


@pytest.mark.data("misc_formats")
@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("bad/truncated.nii.gz", "damaged"),
        ("bad/empty.nii.gz", "unreadable"),
        ("bad/text.nii.gz", "unreadable"),
        ("bad/two_d.nii.gz", "not_a_volume"),
        ("bad/zero_spacing.nii.gz", "geometry"),
        ("odd/ct_perfusion.nii.gz", "not_a_volume"),
        ("odd/complex.nii.gz", "not_a_volume"),
        ("odd/pcasl.nii.gz", "not_a_volume"),
        ("odd/shear.nii.gz", "geometry"),
        ("odd/RAS.mif", "unreadable"),
        ("chaos_ct_dicom/Ground", "unreadable"),
        ("ibsi_thorax_ct/dicom/mask", "unreadable"),
    ],
)
def test_real_files_that_are_no_scans_are_refused(name, code, data_set):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert refusal(data_set / name) == code


@pytest.mark.data("misc_formats")
def test_a_frame_of_a_real_series_is_read(data_set):
    frames = nib.load(data_set / "odd/pcasl.nii.gz")
    np.testing.assert_array_equal(
        voxels_of(read_scan(data_set / "odd/pcasl.nii.gz", frame=3)), np.asanyarray(frames.dataobj)[..., 2]
    )


def test_voxels_of_an_nrrd_that_says_nothing_of_their_size_are_doubted(tmp_path):
    SimpleITK.WriteImage(SimpleITK.Image(4, 5, 6, SimpleITK.sitkInt16), str(tmp_path / "a.nrrd"))
    assert doubts(tmp_path / "a.nrrd") == []
    header, voxels = (tmp_path / "a.nrrd").read_bytes().split(b"\n\n", 1)
    kept = [line for line in header.split(b"\n") if not line.startswith(b"space")]
    (tmp_path / "b.nrrd").write_bytes(b"\n".join(kept) + b"\n\n" + voxels)
    assert read_scan(tmp_path / "b.nrrd").affine[0, 0] in (-1, 1)
    assert doubts(tmp_path / "b.nrrd") == ["its header does not say how large voxels are: they are taken to be 1 mm"]
