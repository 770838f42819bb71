import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from medssl.transforms import Window, Windowd


@pytest.fixture
def scan():
    return torch.randn(1, 6, 20, 20, generator=torch.Generator().manual_seed(0)) * 500 + 40


def test_hounsfield_units_are_clipped_to_the_window_and_mapped_to_one(scan):
    out = Window(hu=(-160, 240))(scan)
    torch.testing.assert_close(torch.as_tensor(out), ((scan + 160) / 400).clamp(0, 1))


def test_the_volume_is_clipped_before_it_is_scored(scan):
    scan[0, 0, 0, 0] = 1e6  # one spike must not set the scale
    out = torch.as_tensor(Window(percentiles=(1, 99), zscore=True)(scan))
    low, high = np.percentile(scan.numpy(), [1, 99])
    clipped = scan.numpy().clip(low, high)
    np.testing.assert_allclose(out.numpy(), (clipped - clipped.mean()) / clipped.std(), rtol=1e-3, atol=1e-4)


def test_zscore_alone_keeps_every_value_apart(scan):
    out = torch.as_tensor(Window(zscore=True)(scan))
    assert out.mean().item() == pytest.approx(0, abs=1e-5)
    assert out.std(correction=0).item() == pytest.approx(1, rel=1e-4)
    assert len(out.unique()) == len(scan.unique())


def test_the_number_of_threads_leaves_the_scale_alone():
    scan = torch.randn(1, 10, 256, 256, generator=torch.Generator().manual_seed(0))
    threads, scored = torch.get_num_threads(), []
    for number in (1, 2):
        torch.set_num_threads(number)
        scored.append(Window(zscore=True)(scan))
    torch.set_num_threads(threads)
    assert torch.equal(*scored)


def test_percentiles_alone_only_clip(scan):
    out = torch.as_tensor(Window(percentiles=(5, 95))(scan))
    inside = (scan > out.min()) & (scan < out.max())
    assert torch.equal(out[inside], scan[inside])
    assert inside.float().mean().item() == pytest.approx(0.9, abs=0.01)


@pytest.mark.parametrize("window", [{"hu": [-160, 240]}, {"percentiles": [1, 99], "zscore": True}, {"zscore": True}])
def test_array_and_dictionary_agree_and_take_a_manifests_window(scan, window):
    out = Windowd("image", **window)({"image": scan, "label": "untouched"})
    assert torch.equal(torch.as_tensor(out["image"]), torch.as_tensor(Window(**window)(scan)))
    assert out["label"] == "untouched"


@pytest.mark.parametrize("window", [{"zscore": True}, {"percentiles": (1, 99)}])
def test_refuses_a_constant_volume(window):
    with pytest.raises(ValueError, match="where they are all 7; leave the case out"):
        Window(**window)(torch.full((1, 2, 2, 2), 7.0))


@pytest.mark.parametrize(
    ("window", "message"),
    [
        ({}, "window takes hu, or percentiles and zscore, got hu None"),
        ({"hu": (0, 1), "zscore": True}, "window takes hu, or percentiles and zscore"),
        ({"hu": (240, -160)}, r"hu must be a lowest and a highest value, got \[240, -160\]"),
        ({"percentiles": (-1, 99)}, "between 0 and 100"),
        ({"percentiles": (0.01, 0.99)}, "are of a hundred, not fractions"),
    ],
)
def test_refuses_a_wrong_request(window, message):
    with pytest.raises(ValueError, match=message):
        Window(**window)


WINDOWS = [{"hu": (-160, 240)}, {"percentiles": (1, 99)}, {"zscore": True}, {"percentiles": (1, 99), "zscore": True}]


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("stored", [torch.int16, torch.float16, torch.float64, "numpy"])
def test_any_stored_type_comes_out_as_float32_and_alike(scan, window, stored):
    scan = scan.round().clamp(-1000, 1000)  # whole numbers that all types hold
    out = Window(**window)(scan.short().numpy() if stored == "numpy" else scan.to(stored))
    assert out.dtype == torch.float32
    torch.testing.assert_close(torch.as_tensor(out), torch.as_tensor(Window(**window)(scan)))


@pytest.mark.parametrize("window", WINDOWS)
def test_neither_the_scan_nor_its_affine_changes(scan, window):
    affine = torch.diag(torch.tensor([2.5, 1.0, 1.0, 1.0])).double()
    stored = MetaTensor(scan.clone(), affine=affine)
    out = Window(**window)(stored)
    assert torch.equal(stored.as_tensor(), scan)
    assert torch.equal(out.affine, affine)


def test_percentiles_of_a_large_volume_are_those_of_numpy():
    large = torch.randn(1, 12, 300, 300, generator=torch.Generator().manual_seed(0))  # above MONAI's 10^6 voxels
    out = torch.as_tensor(Window(percentiles=(2, 98))(large))
    np.testing.assert_allclose([out.min(), out.max()], np.percentile(large.numpy(), [2, 98]), rtol=1e-5)


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_refuses_voxels_that_are_no_number_and_names_the_file(scan, window, value):
    scan[0, 2, 3, 4] = value
    with pytest.raises(ValueError, match=r"must be finite, got .* in scan.nii.gz; repair the file"):
        Windowd("image", **window)({"image": MetaTensor(scan, meta={"filename_or_obj": "scan.nii.gz"})})


def test_refuses_percentiles_that_leave_nothing():
    """A small organ in an empty field: 99.5 % of the voxels are 0."""
    sparse = torch.zeros(1, 10, 10, 10)
    sparse[0, 0, 0, :5] = 3
    with pytest.raises(ValueError, match=r"percentiles \[1, 99\] leave nothing to scale, both are 0; widen them"):
        Window(percentiles=(1, 99), zscore=True)(sparse)
    assert Window(zscore=True)(sparse).max() > 10


def test_a_constant_volume_has_its_place_on_a_fixed_scale():
    assert torch.as_tensor(Window(hu=(-160, 240))(torch.full((1, 2, 2, 2), 40.0))).unique().tolist() == [0.5]


@pytest.mark.parametrize("value", [-1000.0, 900.0])
def test_a_volume_outside_a_fixed_scale_is_refused_a_slice_of_air_is_not(value):
    air = torch.full((1, 4, 4, 4), value) + torch.arange(4)
    with pytest.raises(
        ValueError, match=r"no voxel lies within the window -160 to 240, they are .*; is it of this modality"
    ):
        Window(hu=(-160, 240))(air)
    assert len(torch.as_tensor(Window(hu=(-160, 240))(air[:, 0])).unique()) == 1


def test_a_missing_key_is_passed_over_only_where_that_is_allowed(scan):
    assert set(Windowd(["image", "other"], zscore=True, allow_missing_keys=True)({"image": scan})) == {"image"}
    with pytest.raises(KeyError, match="other"):
        Windowd(["image", "other"], zscore=True)({"image": scan})
