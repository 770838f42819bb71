import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Compose
from skimage.segmentation import felzenszwalb

from medssl.transforms import Superpixels, Superpixelsd, Windowd


@pytest.fixture
def volume():
    """Three slices of two grey discs in noise."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:48, :40]
    discs = 0.2 + 0.3 * ((y - 16) ** 2 + (x - 14) ** 2 < 64) + 0.5 * ((y - 34) ** 2 + (x - 26) ** 2 < 49)
    return torch.tensor(np.clip(discs + 0.02 * rng.standard_normal((1, 3, 48, 40)), 0, 1), dtype=torch.float32)


def test_regions_are_scikit_images_of_every_slice(volume):
    regions = Superpixels(scale=50, sigma=0.8, min_size=20)(volume)
    for slice_regions, pixels in zip(regions[0], volume[0], strict=True):
        expected = felzenszwalb(pixels.numpy().astype(float), scale=50, sigma=0.8, min_size=20)
        assert np.array_equal(slice_regions.numpy(), expected)
    assert regions.dtype == torch.int32
    assert regions.shape == volume.shape


def test_regions_follow_the_edges(volume):
    regions = Superpixels(scale=100, sigma=0.5, min_size=30)(volume)[0, 0]
    in_disc, outside = regions[16, 14], regions[2, 2]
    assert in_disc != outside
    assert (regions[12:20, 10:18] == in_disc).all()


def test_numbers_of_a_slice_begin_at_0_and_leave_no_gap(volume):
    for regions in Superpixels(scale=10, min_size=5)(volume)[0]:
        assert regions.unique().tolist() == list(range(int(regions.max()) + 1))


def test_no_region_is_smaller_than_asked(volume):
    for regions in Superpixels(scale=1, min_size=40)(volume)[0]:
        assert regions.unique(return_counts=True)[1].min() >= 40


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_slices_are_taken_along_the_named_axis(volume, axis):
    turned = volume.movedim(1, 1 + axis)
    regions = Superpixels(min_size=20, axis=axis)(turned)
    assert torch.equal(regions.movedim(1 + axis, 1), Superpixels(min_size=20)(volume).movedim(1, 1))


def test_a_slice_alone_has_the_regions_it_has_in_its_volume(volume):
    superpixels = Superpixels(min_size=20)
    assert torch.equal(superpixels(volume[:, 1]), superpixels(volume)[:, 1])


def test_array_and_dictionary_agree_and_geometry_is_kept(volume):
    scan = MetaTensor(volume * 400 - 160, affine=torch.diag(torch.tensor([2.5, 1.0, 1.0, 1.0])).double())
    out = Compose([Windowd("image", hu=(-160, 240)), Superpixelsd("image", min_size=20)])({"image": scan})
    assert torch.equal(out["regions"].as_tensor(), Superpixels(min_size=20)(out["image"].as_tensor()))
    assert torch.equal(out["regions"].affine, scan.affine)


def test_numpy_in_numpy_out(volume):
    regions = Superpixels(min_size=20)(volume.numpy())
    assert isinstance(regions, np.ndarray)
    assert np.array_equal(regions, Superpixels(min_size=20)(volume).numpy())


@pytest.mark.parametrize(
    "image", [torch.zeros(1, 8, 8, dtype=torch.int16), torch.full((1, 8, 8), -160.0), torch.rand(1, 8, 8) + 1]
)
def test_refuses_intensities_that_are_not_windowed(image):
    with pytest.raises(ValueError, match=r"must be floating and lie in \[0, 1\].*window them first"):
        Superpixels()(image)


def test_refuses_voxels_that_are_no_number():
    with pytest.raises(ValueError, match="from nan to nan"):
        Superpixels()(torch.full((1, 8, 8), float("nan")))


@pytest.mark.parametrize("arguments", [{"scale": -1}, {"sigma": -1}, {"min_size": 0}, {"min_size": 10.5}])
def test_refuses_settings_that_make_no_regions(arguments):
    with pytest.raises(ValueError, match="scale and sigma must not be negative and min_size be a whole number"):
        Superpixels(**arguments)


def test_refuses_regions_larger_than_a_slice(volume):
    with pytest.raises(ValueError, match=r"min_size 100000 does not fit into a slice of \d+ x \d+ pixels; lower it"):
        Superpixels(min_size=100_000)(volume)


def test_refuses_a_shape_that_has_no_slices():
    with pytest.raises(ValueError, match=r"must be \(C, H, W\)"):
        Superpixels()(torch.zeros(8, 8))


def test_refuses_one_name_for_two_images():
    with pytest.raises(ValueError, match="names must be one for each of the keys"):
        Superpixelsd(["image", "other"])
