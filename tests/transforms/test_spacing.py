import itertools

import nibabel as nib
import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from monai.data import CacheDataset, DataLoader, MetaTensor, decollate_batch
from monai.transforms import Compose, EnsureTyped, Invertd, Orientationd, Spacingd
from scipy.spatial.transform import Rotation

from medssl.transforms import LoadScand, ResampleToSpacing, ResampleToSpacingd
from medssl.transforms.spacing import voxel_axis

SPACING = (3.0, 1.0, 2.0)  # of (S, P, L)


def volume(codes="SPL", shape=(6, 10, 8), spacing=SPACING):
    """One anatomy, stored with the axes ``codes``; every voxel has its own value."""
    array = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    # From (S, P, L) voxels to RAS millimetres: L and P are negative there.
    turned = np.array([[0, 0, -spacing[2], 4], [0, -spacing[1], 0, 5], [spacing[0], 0, 0, 6], [0, 0, 0, 1]], float)
    image = nib.Nifti1Image(array, turned).as_reoriented(
        nib.orientations.ornt_transform(
            nib.orientations.axcodes2ornt(("S", "P", "L")), nib.orientations.axcodes2ornt(tuple(codes))
        )
    )
    return MetaTensor(torch.tensor(np.array(image.dataobj))[None], affine=torch.tensor(image.affine))


def all_codes():
    for order in itertools.permutations(("RL", "AP", "SI")):
        yield from map("".join, itertools.product(*order))


@pytest.mark.parametrize("codes", list(all_codes()))
def test_every_axis_order_of_a_file_gives_the_same_slices(codes):
    stored = volume(codes)
    assert nib.aff2axcodes(stored.affine.numpy()) == tuple(codes)
    turned = ResampleToSpacing((None, None, None))(stored)
    assert torch.equal(turned.as_tensor(), volume().as_tensor())
    assert turned.is_contiguous()  # slices are read from it many times
    np.testing.assert_allclose(turned.affine.numpy(), volume().affine.numpy(), atol=1e-9)
    assert nib.aff2axcodes(turned.affine.numpy()) == ("S", "P", "L")


@pytest.mark.parametrize("axis", ["S", "I", "A", "P", "R", "L"])
def test_slices_come_first_along_the_axis_that_is_named(axis):
    turned = ResampleToSpacing((None, None, None), slice_axis=axis)(volume("RAS"))
    assert nib.aff2axcodes(turned.affine.numpy())[0] == axis


def test_the_largest_spacing_may_be_any_axis():
    sagittal = volume("RAS", spacing=(1.0, 1.0, 6.0))
    turned = ResampleToSpacing((None, None, None), slice_axis="largest_spacing")(sagittal)
    assert nib.aff2axcodes(turned.affine.numpy())[0] == "R"
    assert turned.shape[1] == 8


def test_resamples_to_depth_height_width_in_millimetres():
    resampled = ResampleToSpacing((1.5, 2.0, None))(volume("RAS"))
    sizes = np.linalg.norm(resampled.affine[:3, :3].numpy(), axis=0)
    np.testing.assert_allclose(sizes, (1.5, 2.0, 2.0))
    assert resampled.shape == (1, 11, 6, 8)


def test_a_volume_of_the_right_spacing_is_not_interpolated():
    assert torch.equal(ResampleToSpacing(SPACING)(volume()).as_tensor(), volume().as_tensor())


def test_labels_only_take_old_values():
    labels = MetaTensor((volume() % 7).as_tensor().round() * 3, affine=volume().affine)
    out = ResampleToSpacingd(["image", "label"], (1.1, 0.7, 0.9), mode=["bilinear", "nearest"])(
        {"image": labels, "label": labels}
    )
    assert set(out["label"].unique().tolist()) <= set(labels.unique().tolist())
    assert not set(out["image"].unique().tolist()) <= set(labels.unique().tolist())


@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from(list(all_codes())),
    st.tuples(*[st.integers(4, 12)] * 3),
    st.tuples(*[st.floats(0.5, 4)] * 3),
    st.tuples(*[st.one_of(st.none(), st.floats(0.5, 4))] * 3),
    st.sampled_from(["S", "A", "R", "largest_spacing"]),
)
def test_the_inverse_restores_shape_and_affine(codes, shape, spacing, target, axis):
    assume(axis != "largest_spacing" or sorted(spacing)[2] > 1.002 * sorted(spacing)[1])  # a tie is refused, below
    stored = volume(codes, shape, spacing)
    resample = ResampleToSpacing(target, slice_axis=axis)
    back = resample.inverse(resample(stored))
    assert back.shape == stored.shape
    assert torch.allclose(back.affine, stored.affine, atol=1e-6)


def test_array_and_dictionary_agree():
    pair = ResampleToSpacingd("image", (2.0, 1.5, 1.5), "A")({"image": volume("RAS")})
    assert torch.equal(pair["image"], ResampleToSpacing((2.0, 1.5, 1.5), "A")(volume("RAS")))


def test_a_prediction_returns_to_the_file_beside_entries_that_look_like_metadata(tmp_path):
    y, x, z = np.meshgrid(np.arange(40), np.arange(36), np.arange(12), indexing="ij")
    ball = (np.hypot(np.hypot(y - 20, x - 18), 2 * (z - 6)) < 10).astype(np.float32)
    path = tmp_path / "ball.nii.gz"
    nib.Nifti1Image(ball, np.diag([-1.0, -1.0, 2.0, 1.0])).to_filename(path)
    load = Compose([LoadScand("image"), ResampleToSpacingd("image", (2.5, 2.0, 2.0))])
    data = load({"image": str(path), "image_path": str(path), "image_2": 5})
    assert data["image_path"] == str(path)
    data["pred"] = EnsureTyped("pred")({"pred": torch.cat([1 - data["image"], data["image"]]).as_tensor()})["pred"]
    data["pred"] = MetaTensor(data["pred"])
    back = Invertd("pred", transform=load, orig_keys="image", nearest_interp=False)(data)["pred"]
    found = back.argmax(dim=0).numpy()
    assert found.shape == ball.shape
    np.testing.assert_array_equal(back.affine.numpy(), nib.load(path).affine)
    assert 2 * (found * ball).sum() / (found.sum() + ball.sum()) > 0.93


@pytest.mark.data("misc_formats")
def test_one_brain_in_many_axis_orders_comes_out_alike(data_set):
    load = Compose([LoadScand("image"), ResampleToSpacingd("image", (2, 2, 2))])
    brains = [load({"image": str(path)})["image"] for path in sorted((data_set / "orientations").glob("*.nii*"))]
    assert len(brains) > 20
    for brain in brains[1:]:
        assert brain.shape == brains[0].shape
        assert np.corrcoef(brain.flatten(), brains[0].flatten())[0, 1] > 0.999


@pytest.mark.data("misc_formats")
def test_one_brain_is_the_same_voxel_for_voxel_on_its_own_grid_and_returns_to_every_file(data_set):
    load = LoadScand("image")
    resample = ResampleToSpacing((None, None, None))
    stored = [load({"image": str(path)})["image"] for path in sorted((data_set / "orientations").glob("*.nii*"))]
    turned = [resample(brain) for brain in stored]
    for brain, before in zip(turned, stored, strict=True):
        assert torch.equal(brain.as_tensor(), turned[0].as_tensor())
        np.testing.assert_allclose(brain.affine.numpy(), turned[0].affine.numpy(), atol=1e-5)  # as far as headers agree
        back = resample.inverse(brain)
        assert torch.equal(back.as_tensor(), before.as_tensor())
        np.testing.assert_allclose(back.affine.numpy(), before.affine.numpy(), atol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"spacing": (1.0, 1.0)}, r"three positive lengths in mm or None, got \[1.0, 1.0\]"),
        ({"spacing": (1.0, 0.0, 1.0)}, "three positive lengths"),
        ({"spacing": 1.5}, r"three positive lengths in mm or None, got \[1.5\]"),
        ({"spacing": ["null", 1.5, 1.5]}, r"three positive lengths in mm or None, got \['null', 1.5, 1.5\]"),
        ({"spacing": (None, 1.0, float("nan"))}, "three positive lengths"),
        ({"mode": "trilinear"}, "bilinear, nearest or the order of a spline, 0 to 5, got 'trilinear'"),
        ({"slice_axis": "X"}, "one of S, I, A, P, R, L or largest_spacing, got 'X'"),
    ],
)
def test_refuses_a_wrong_request(options, message):
    with pytest.raises(ValueError, match=message):
        ResampleToSpacing(**options)


def test_refuses_what_is_no_volume_and_names_the_file():
    resample = ResampleToSpacing()
    with pytest.raises(ValueError, match=r"three spatial dimensions, got \(1, 6, 10\)"):
        resample(volume()[..., 0])
    with pytest.raises(ValueError, match="got a plain tensor; load it with LoadScand"):
        resample(volume().as_tensor())
    for bad in (0.0, float("nan")):
        broken = volume()
        broken.affine[:3, 0] = bad
        broken.meta["filename_or_obj"] = "scan.nii.gz"
        with pytest.raises(ValueError, match=r"must be finite and span three axes, got .* in scan.nii.gz"):
            resample(broken)


def tilted(rotation, codes="SPL", spacing=SPACING):
    """The same voxels, the patient lying at an angle."""
    straight = volume(codes, spacing=spacing)
    turn = np.eye(4)
    turn[:3, :3] = rotation.as_matrix()
    return MetaTensor(straight.as_tensor(), affine=torch.tensor(turn) @ straight.affine)


# At 45 degrees two voxel axes are as near to one direction: MONAI's Orientation confuses them on the way back.
ANGLES = [Rotation.from_euler("xy", (45, 45), degrees=True), Rotation.from_euler("x", 45, degrees=True)]
ANGLES += list(Rotation.random(4, random_state=0))


@pytest.mark.parametrize("angle", range(len(ANGLES)))
@pytest.mark.parametrize("axis", ["S", "largest_spacing"])
def test_an_oblique_file_is_restored_bit_for_bit_where_nothing_is_interpolated(angle, axis):
    resample = ResampleToSpacing((None, None, None), slice_axis=axis)
    for codes in all_codes():
        stored = tilted(ANGLES[angle], codes)
        back = resample.inverse(resample(stored))
        assert torch.equal(back.as_tensor(), stored.as_tensor())
        np.testing.assert_allclose(back.affine.numpy(), stored.affine.numpy(), atol=1e-6)


@pytest.mark.parametrize("angle", range(len(ANGLES)))
def test_an_oblique_stack_is_sliced_along_its_voxel_axis_of_largest_spacing(angle):
    for codes in all_codes():
        turned = ResampleToSpacing((None, None, None), slice_axis="largest_spacing")(tilted(ANGLES[angle], codes))
        assert turned.shape[1] == 6
        assert turned.pixdim[0].item() == pytest.approx(3.0)
        slices = turned.as_tensor()[0].flatten(1).amin(dim=1).sort().values  # whole slices as they were stored
        assert torch.equal(slices, 80.0 * torch.arange(6))


@pytest.mark.parametrize("angle", range(len(ANGLES)))
def test_every_voxel_shows_the_place_that_the_affine_names(angle):
    """An intensity linear in millimetres is interpolated without error, so it tells where a voxel came from."""

    def places(affine, shape):
        grid = torch.stack(torch.meshgrid(*[torch.arange(n) for n in shape], indexing="ij")).double()  # (3, *)
        return torch.einsum("ij,j...->i...", affine[:3, :3], grid) + affine[:3, 3, None, None, None]

    def intensity(millimetres):
        return torch.einsum("i,i...->...", torch.tensor([1.0, 10.0, 100.0]).double(), millimetres)[None]

    affine = tilted(ANGLES[angle], "RAS").affine
    stored = MetaTensor(intensity(places(affine, (9, 12, 10))).float(), affine=affine)
    out = ResampleToSpacing((2.5, 0.9, 1.3), slice_axis="largest_spacing")(stored)
    np.testing.assert_allclose(out.pixdim.numpy(), (2.5, 0.9, 1.3), atol=1e-6)
    wrong = (out.as_tensor() - intensity(places(out.affine, out.shape[1:]))).abs()
    assert wrong[:, :-1, :-1, :-1].max() < 0.01  # the last plane may lie beyond the border


def test_equals_monais_chain_on_a_file_without_lookalike_entries():
    data = {"image": volume("LAI")}
    chain = Compose([Orientationd("image", "SPL", labels=None), Spacingd("image", (2.5, 1.5, 1.0), dtype=np.float32)])
    ours, theirs = ResampleToSpacingd("image", (2.5, 1.5, 1.0))(data)["image"], chain(data)["image"]
    assert torch.equal(ours.as_tensor(), theirs.as_tensor())
    assert torch.equal(ours.affine, theirs.affine)


@pytest.mark.parametrize("stored", [torch.int16, torch.uint8, torch.float64])
def test_any_stored_type_comes_out_as_float32_with_its_values(stored):
    values = volume("LPS").as_tensor().remainder(200).to(stored)
    out = ResampleToSpacing(SPACING, mode="nearest")(MetaTensor(values, affine=volume("LPS").affine))
    assert out.dtype == torch.float32
    assert torch.equal(out.as_tensor(), volume().as_tensor().remainder(200))


@pytest.mark.parametrize(("target", "least"), [((1.0, 0.5, 0.5), 1.0), ((4.0, 2.0, 2.0), 0.88)])
def test_a_label_survives_twice_and_half_the_resolution(target, least):
    """Dice after there and back: all of it at twice the resolution, 0.88 at half, for an organ some 20 voxels wide."""
    grid = torch.stack(torch.meshgrid(*[torch.arange(float(n)) for n in (24, 40, 40)], indexing="ij"))
    axes = torch.tensor([8.0, 14.0, 12.0])[:, None, None, None]
    organ = (((grid - torch.tensor([12.0, 20.0, 20.0])[:, None, None, None]) / axes).norm(dim=0) < 1).float()
    label = MetaTensor(organ[None], affine=volume(spacing=(2.0, 1.0, 1.0)).affine)
    resample = ResampleToSpacing(target, mode="nearest")
    back = resample.inverse(resample(label))
    assert 2 * (back * label).sum() / (back.sum() + label.sum()) >= least


def test_single_and_double_precision_agree():
    stored = volume("PIR") / 480
    single, double = (ResampleToSpacing((2.5, 1.5, 0.7), dtype=kind)(stored) for kind in (np.float32, np.float64))
    torch.testing.assert_close(single.as_tensor(), double.as_tensor(), rtol=0, atol=1e-4)


@pytest.mark.parametrize("workers", [0, 1])
def test_predictions_return_from_the_cache_through_a_loader(tmp_path, workers):
    files = [tmp_path / f"{codes}.nii.gz" for codes in ("LPS", "RSA")]
    for path in files:
        stored = tilted(ANGLES[2], path.name[:3])
        nib.Nifti1Image(stored[0].numpy(), stored.affine.numpy()).to_filename(path)
    load = Compose(
        [
            LoadScand(["image", "label"], allow_missing_keys=True),
            ResampleToSpacingd(
                ["image", "label"], (2.0, 1.5, 1.5), mode=["bilinear", "nearest"], allow_missing_keys=True
            ),
        ]
    )
    dataset = CacheDataset([{"image": str(path)} for path in files], load, progress=False, num_workers=0)
    invert = Invertd("pred", transform=load, orig_keys="image", nearest_interp=False)
    for path, batch in zip(files, DataLoader(dataset, batch_size=1, num_workers=workers), strict=True):
        batch["pred"] = torch.cat([batch["image"], 2 * batch["image"], -batch["image"]], dim=1)
        back = invert(decollate_batch(batch)[0])["pred"]
        file = nib.load(path)
        assert back.shape == (3, *file.shape)
        np.testing.assert_allclose(back.affine.numpy(), file.affine, atol=1e-6)
        torch.testing.assert_close(back[1].as_tensor(), 2 * back[0].as_tensor())
        assert np.corrcoef(back[0].flatten(), np.asarray(file.dataobj).ravel())[0, 1] > 0.9


def test_a_missing_key_is_passed_over_only_where_that_is_allowed():
    assert set(ResampleToSpacingd(["image", "label"], allow_missing_keys=True)({"image": volume()})) == {"image"}
    with pytest.raises(KeyError, match="label"):
        ResampleToSpacingd(["image", "label"])({"image": volume()})


def test_refuses_an_affine_that_names_no_space():
    flat, nowhere = volume(), volume()
    flat.affine[:3, 0] = 2 * flat.affine[:3, 1]
    nowhere.affine[0, 3] = float("inf")
    for broken in (flat, nowhere):
        with pytest.raises(ValueError, match="repair the header or leave the case out"):
            ResampleToSpacing()(broken)


def test_refuses_a_gantry_tilt_left_in_the_affine():
    sheared = volume(spacing=(2.0, 1.0, 1.0))
    sheared.affine[:3, 2] += 0.2 * sheared.affine[:3, 1]
    with pytest.raises(ValueError, match=r"at right angles, got them 11.3 degrees off; resample"):
        ResampleToSpacing()(sheared)


def test_refuses_to_guess_between_two_axes_of_largest_spacing():
    with pytest.raises(ValueError, match=r"one axis of largest spacing, got \[2.0, 1.0, 2.0\] mm; name the slice axis"):
        ResampleToSpacing(slice_axis="largest_spacing")(volume(spacing=(2.0, 1.0, 2.0)))


@pytest.mark.parametrize(
    ("codes", "slice_axis", "axis"),
    [("RAS", "S", 2), ("LPI", "S", 2), ("PSR", "S", 1), ("PSR", "A", 0), ("ASL", "R", 2)],
)
def test_the_axis_of_the_file_is_the_one_that_the_manifest_says_whatever_their_order(codes, slice_axis, axis):
    ras, wanted = (nib.orientations.axcodes2ornt(c) for c in ("RAS", codes))
    image = nib.Nifti1Image(np.zeros((4, 5, 6), np.int16), np.eye(4))
    turned = image.as_reoriented(nib.orientations.ornt_transform(ras, wanted))
    assert voxel_axis(turned.affine, slice_axis) == axis


def test_the_axis_of_largest_spacing_is_found_in_the_file():
    assert voxel_axis(np.diag([1.4, 10.0, 1.4, 1.0]), "largest_spacing") == 1


def test_a_spacing_may_be_an_array():
    assert ResampleToSpacing(np.array(SPACING))(volume()).shape[1:] == (6, 10, 8)
