import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from medssl.transforms import Supervoxels, Supervoxelsd


@pytest.fixture
def volume():
    """A ball in noise."""
    z, y, x = np.mgrid[:16, :24, :20]
    ball = 0.2 + 0.6 * ((z - 8) ** 2 + (y - 12) ** 2 + (x - 10) ** 2 < 36)
    noise = 0.02 * np.random.default_rng(0).standard_normal(ball.shape)
    return torch.tensor(np.clip(ball + noise, 0, 1)[None], dtype=torch.float32)


def test_regions_keep_to_one_side_of_an_edge_in_all_three_directions(volume):
    regions, ball = Supervoxels(size=100)(volume)[0], volume[0] > 0.5
    shares = torch.stack([ball[regions == number].float().mean() for number in regions.unique()])
    assert ((shares < 0.15) | (shares > 0.85)).float().mean() > 0.9


def test_regions_have_about_the_asked_size_and_are_numbered_without_gaps(volume):
    regions = Supervoxels(size=100)(volume)
    count = len(regions.unique())
    assert regions.dtype == torch.int32
    assert regions.unique().tolist() == list(range(count))
    assert 0.5 < count / (volume.numel() / 100) < 1.5


def test_array_and_dictionary_agree_and_geometry_is_kept(volume):
    scan = MetaTensor(volume, affine=torch.diag(torch.tensor([2.0, 1.0, 1.0, 1.0])).double())
    out = Supervoxelsd("image", size=100)({"image": scan})["regions"]
    assert torch.equal(out.as_tensor(), Supervoxels(size=100)(volume))
    assert torch.equal(out.affine, scan.affine)


def test_refuses_what_is_no_scaled_volume(volume):
    for wrong in (volume[0], volume * 2, (volume * 100).int()):
        with pytest.raises(ValueError, match=r"must be \(C, D, H, W\), floating and within \[0, 1\]"):
            Supervoxels()(wrong)
    with pytest.raises(ValueError, match="size must be at least 1"):
        Supervoxels(size=0)
