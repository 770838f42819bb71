import copy

import numpy as np
import pydicom
import pytest
from dicom_files import AFFINE, SHAPE, rectangle, write_rt_struct

from medssl.readers import ScanError, read_scan
from medssl.readers.rt_struct import is_rt_struct, read_rt_struct


@pytest.mark.data("misc_formats")
def test_draws_the_voxels_of_the_published_mask(data_set):
    folder = data_set / "ibsi_thorax_ct"
    image = read_scan(folder / "dicom" / "image")
    structures = read_rt_struct(folder / "dicom" / "mask" / "DCM_RS_00060.dcm")
    mask = read_scan(folder / "nifti" / "mask" / "mask.nii.gz")
    np.testing.assert_allclose(image.affine, mask.affine, atol=1e-3)
    assert list(structures.contours) == ["GTV-1"]
    drawn = structures.draw(["GTV-1"], image.shape, image.affine)
    np.testing.assert_array_equal(drawn, np.asanyarray(mask.dataobj) > 0)


def test_a_contour_within_another_is_a_hole_and_regions_join(tmp_path):
    ring = [rectangle((1.5, 1.5), (7.5, 6.5), 1), rectangle((3.5, 3.5), (5.5, 4.5), 1)]
    file = write_rt_struct(
        tmp_path / "rt.dcm", {"ring": ring, "spot": [rectangle((8.5, 7.5), (9.5, 8.5), 3)], "none": []}
    )
    structures = read_rt_struct(file)
    assert structures.series == {"1.2.3"}
    assert list(structures.contours) == ["ring", "spot"]
    expected = np.zeros(SHAPE, dtype=bool)
    expected[2:8, 2:7, 1] = True
    expected[4:6, 4:5, 1] = False
    np.testing.assert_array_equal(structures.draw(["ring"], SHAPE, AFFINE), expected)
    expected[9, 8, 3] = True
    np.testing.assert_array_equal(structures.draw(["ring", "spot"], SHAPE, AFFINE), expected)


def test_slices_may_run_along_any_axis_of_the_image(tmp_path):
    structures = read_rt_struct(write_rt_struct(tmp_path / "rt.dcm", {"organ": [rectangle((1.5, 1.5), (7.5, 6.5), 1)]}))
    turned = AFFINE[:, [2, 0, 1, 3]]  # slices first
    along_z = structures.draw(["organ"], SHAPE, AFFINE)
    np.testing.assert_array_equal(structures.draw(["organ"], (4, 12, 10), turned), along_z.transpose(2, 0, 1))


@pytest.mark.parametrize(
    ("contours", "message"),
    [
        ([[(1, 1, 0), (5, 1, 1.2), (5, 5, 2.4)]], r"lie 1\.4 slices off those of the image"),
        ([rectangle((1, 1), (5, 5), place) for place in (0, 0.5, 1)], r"lie 0\.5 slices off"),
        ([rectangle((1, 1), (5, 5), place) for place in (0, 3)], "has them in 2 of the 4 slices that it spans"),
        ([rectangle((1, 1), (5, 5), 9)], "do not cover a voxel of the image"),
        ([rectangle((21, 1), (25, 5), 1)], "do not cover a voxel of the image"),
    ],
    ids=["across", "between", "few", "above", "beside"],
)
def test_contours_that_do_not_fit_the_slices_are_refused(contours, message, tmp_path):
    structures = read_rt_struct(write_rt_struct(tmp_path / "rt.dcm", {"organ": contours}))
    with pytest.raises(ScanError, match=message):
        structures.draw(["organ"], SHAPE, AFFINE)


def test_contours_beyond_the_image_are_told(tmp_path, caplog):
    contours = [rectangle((1.5, 1.5), (5.5, 5.5), place) for place in (2, 3, 4)]
    structures = read_rt_struct(write_rt_struct(tmp_path / "rt.dcm", {"organ": contours}))
    assert structures.draw(["organ"], SHAPE, AFFINE).sum() == 2 * 16
    assert "1 of 3 contours of 'organ' lie beyond the image" in caplog.text


def test_what_stands_twice_does_not_undo_itself(tmp_path):
    square = rectangle((1.5, 1.5), (7.5, 6.5), 1)
    once = read_rt_struct(write_rt_struct(tmp_path / "once.dcm", {"organ": [square]}))
    twice = read_rt_struct(write_rt_struct(tmp_path / "twice.dcm", {"organ": [square, square]}))
    header = pydicom.dcmread(tmp_path / "once.dcm")
    for sequence in (header.StructureSetROISequence, header.ROIContourSequence):
        sequence.append(copy.deepcopy(sequence[0]))
    header.StructureSetROISequence[1].ROINumber = header.ROIContourSequence[1].ReferencedROINumber = 2
    header.save_as(tmp_path / "namesakes.dcm")
    namesakes = read_rt_struct(tmp_path / "namesakes.dcm")
    drawn = once.draw(["organ"], SHAPE, AFFINE)
    assert drawn.sum() == 30
    for other in (twice, namesakes):
        np.testing.assert_array_equal(other.draw(["organ"], SHAPE, AFFINE), drawn)


def test_other_files_are_told_from_an_rtstruct(tmp_path):
    file = write_rt_struct(tmp_path / "rt.dcm", {"organ": [rectangle((1, 1), (5, 5), 1)]})
    plan = write_rt_struct(tmp_path / "plan.dcm", {}, modality="RTPLAN")
    text = tmp_path / "text.dcm"
    text.write_text("no DICOM")
    assert [is_rt_struct(each) for each in (file, plan, text, tmp_path / "none.dcm")] == [True, False, False, False]
    with pytest.raises(ScanError, match="it must be an RTSTRUCT, its modality is RTPLAN"):
        read_rt_struct(plan)
    with pytest.raises(ScanError, match="it is no DICOM file"):
        read_rt_struct(text)


@pytest.mark.filterwarnings("ignore:.*:UserWarning")  # pydicom's, of what it finds unfinished
def test_a_file_that_was_cut_off_loses_no_contour_in_silence(tmp_path):
    whole = write_rt_struct(tmp_path / "rt.dcm", {"organ": [rectangle((1, 1), (5, 5), number) for number in range(3)]})
    content = whole.read_bytes()
    for length in range(400, len(content) - 1, 7):  # the last byte fills up the number of the region
        (tmp_path / "cut.dcm").write_bytes(content[:length])
        with pytest.raises(ScanError):
            read_rt_struct(tmp_path / "cut.dcm")
