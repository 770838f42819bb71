import gzip

import nibabel as nib
import numpy as np
import pytest

from medssl.data import find_scans


def write(folder, name, shape=(4, 5, 6)):
    nib.save(nib.Nifti1Image(np.zeros(shape, np.int16), np.eye(4)), folder / name)


def test_every_volume_is_found_and_nothing_else(tmp_path):
    for name, shape in (("b.nii", (4, 5, 6)), ("a.nii.gz", (4, 5, 6, 1))):
        write(tmp_path, name, shape)
    (tmp_path / "notes.txt").write_text("")
    (tmp_path / "._a.nii.gz").write_text("left by another system")
    assert [scan["image"] for scan in find_scans(tmp_path)] == [str(tmp_path / "a.nii.gz"), str(tmp_path / "b.nii")]


def test_what_cannot_be_segmented_is_listed_before_anything_is(tmp_path):
    write(tmp_path, "cine.nii.gz", (4, 5, 6, 30))
    write(tmp_path, "slice.nii", (4, 5))
    (tmp_path / "broken.nii.gz").write_bytes(b"no gzip")
    write(tmp_path, "damaged.nii.gz")
    data = bytearray((tmp_path / "damaged.nii.gz").read_bytes())
    data[12:30] = b"\xff" * 18
    (tmp_path / "damaged.nii.gz").write_bytes(data)
    for name in ("twice.nii", "twice.nii.gz"):
        write(tmp_path, name)
    with pytest.raises(ValueError, match="move these out of") as caught:
        find_scans(tmp_path)
    lines = str(caught.value).splitlines()[1:]
    assert lines[0].startswith("  broken.nii.gz: it is no scan (")
    assert lines[2].startswith("  damaged.nii.gz: ")
    assert [lines[1], *lines[3:]] == [
        "  cine.nii.gz: it holds 30 frames, counted from 1, and none is named",
        "  slice.nii: it must have three axes, its shape is (4, 5)",
        "  twice.nii.gz: its mask would be that of twice.nii",
    ]


def test_a_scan_whose_axes_lie_in_a_plane_is_named(tmp_path):
    nib.save(nib.Nifti1Image(np.zeros((4, 5, 6), np.int16), None), tmp_path / "flat.nii")
    header = bytearray((tmp_path / "flat.nii").read_bytes())
    header[254:256] = np.array([1], np.int16).tobytes()  # the affine is that of three rows, all zero
    header[280:328] = bytes(48)
    (tmp_path / "flat.nii").write_bytes(header)
    with pytest.raises(ValueError, match=r"flat.nii: its affine must be finite and span three axes"):
        find_scans(tmp_path)


@pytest.mark.parametrize("name", ["scan.nii", "scan.nii.gz"])
def test_a_scan_that_is_cut_off_is_named_before_anything_is_segmented(tmp_path, name):
    voxels = np.random.default_rng(0).integers(0, 999, (40, 50, 60)).astype(np.int16)
    nib.save(nib.Nifti1Image(voxels, np.eye(4)), tmp_path / name)
    whole = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=f"{name}: it (holds|cannot be read to its end)"):
        find_scans(tmp_path)


def test_a_header_that_promises_more_than_memory_holds_is_named_too(tmp_path):
    write(tmp_path, "huge.nii")
    header = bytearray((tmp_path / "huge.nii").read_bytes())
    header[40:56] = np.array([3, 32000, 32000, 32000, 1, 1, 1, 1], np.int16).tobytes()
    (tmp_path / "huge.nii").write_bytes(header)
    (tmp_path / "huge2.nii.gz").write_bytes(gzip.compress(bytes(header)))
    with pytest.raises(ValueError, match=r"huge.nii: its header promises[\s\S]*huge2.nii.gz: its header promises"):
        find_scans(tmp_path)


def test_a_scan_compressed_in_parts_is_whole(tmp_path):
    write(tmp_path, "scan.nii")
    data = (tmp_path / "scan.nii").read_bytes()
    (tmp_path / "scan.nii").unlink()
    (tmp_path / "scan.nii.gz").write_bytes(gzip.compress(data[:400]) + gzip.compress(data[400:]))
    assert len(find_scans(tmp_path)) == 1


def test_masks_are_not_written_among_the_scans(tmp_path):
    write(tmp_path, "scan.nii")
    with pytest.raises(ValueError, match="masks must not lie among the scans"):
        find_scans(tmp_path, tmp_path / "." / "")


def test_what_is_no_folder_is_said_to_be_none(tmp_path):
    write(tmp_path, "scan.nii")
    for name in ("nowhere", "scan.nii"):
        with pytest.raises(FileNotFoundError, match=f"no folder .*{name}; give the one"):
            find_scans(tmp_path / name)


def test_voxels_that_are_no_real_numbers_are_named(tmp_path):
    nib.save(nib.Nifti1Image(np.zeros((4, 5, 6), np.complex64), np.eye(4)), tmp_path / "complex.nii")
    colour = np.zeros((4, 5, 6), [("R", "u1"), ("G", "u1"), ("B", "u1")])
    nib.save(nib.Nifti1Image(colour, np.eye(4)), tmp_path / "perfusion.nii")
    with pytest.raises(ValueError, match=r"complex.nii: it must hold real[\s\S]*perfusion.nii: it must hold real"):
        find_scans(tmp_path)


def test_an_empty_folder_says_what_was_looked_for(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no scan \(.nii, .nii.gz, .*or a folder of DICOM\) in"):
        find_scans(tmp_path)


def test_what_a_header_leaves_to_guess_is_warned_of(tmp_path, caplog):
    nib.save(nib.Nifti1Image(np.zeros((4, 4, 4), np.int16), None), tmp_path / "a.nii.gz")
    assert len(find_scans(tmp_path)) == 1
    assert "a.nii.gz: its header does not say how it lies in space" in caplog.text
