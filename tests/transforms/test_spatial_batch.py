import pytest
import torch

from medssl.transforms import RandSpatialBatch


def test_without_the_deformation_only_mirror_images_remain():
    torch.manual_seed(0)
    image = torch.randn(1, 1, 12, 20)
    mirrored = [image, image.flip(2), image.flip(3), image.flip(2, 3)]
    out = RandSpatialBatch(probability=0.0)(image.repeat(32, 1, 1, 1))
    seen = {min(range(4), key=lambda m: (slice_ - mirrored[m][0]).abs().max().item()) for slice_ in out}
    assert seen == {0, 1, 2, 3}
    for slice_ in out:
        assert min((slice_ - m[0]).abs().max().item() for m in mirrored) < 1e-4


def test_a_group_shares_one_map_and_groups_differ():
    torch.manual_seed(0)
    image = torch.randn(1, 1, 32, 32).repeat(6, 1, 1, 1)
    out = RandSpatialBatch(shared=True, probability=1.0)(image, torch.tensor([0, 0, 1, 1, 0, 1]))
    assert torch.equal(out[0], out[1])
    assert torch.equal(out[0], out[4])
    assert torch.equal(out[2], out[5])
    assert not torch.equal(out[0], out[2])


def test_independent_maps_differ():
    torch.manual_seed(0)
    out = RandSpatialBatch(probability=1.0)(torch.randn(1, 1, 32, 32).repeat(4, 1, 1, 1))
    assert all(not torch.equal(out[0], other) for other in out[1:])


def test_the_seed_decides_the_draw():
    image, view = torch.randn(3, 1, 32, 32), RandSpatialBatch()
    torch.manual_seed(5)
    first = view(image)
    torch.manual_seed(5)
    assert torch.equal(view(image), first)


def test_rotation_is_rigid_whatever_the_shape_of_the_slice():
    """A disc at the centre of an oblong slice stays the disc it is."""
    torch.manual_seed(0)
    y, x = torch.meshgrid(torch.arange(48) - 23.5, torch.arange(96) - 47.5, indexing="ij")
    disc = ((18 - (x.square() + y.square()).sqrt()) / 8).clamp(0, 1)[None, None]
    out = RandSpatialBatch(probability=1.0, scale=(1.0, 1.0), bend=(0.0, 0.0))(disc.repeat(8, 1, 1, 1))
    assert (out - disc).abs().amax() < 0.05


def test_magnification_above_one_enlarges_the_anatomy():
    torch.manual_seed(0)
    square = torch.zeros(1, 1, 64, 64)
    square[..., 24:40, 24:40] = 1
    out = RandSpatialBatch(probability=1.0, scale=(1.5, 1.5), bend=(0.0, 0.0), rotation=0.0)(square)
    assert out.sum().item() == pytest.approx(1.5**2 * 256, rel=0.05)


def test_bending_moves_by_the_pixels_it_promises():
    torch.manual_seed(0)
    bend = RandSpatialBatch(probability=1.0, scale=(1.0, 1.0), rotation=0.0, bend=(2.0, 2.0), bend_spacing=16)
    straight = RandSpatialBatch(probability=1.0, scale=(1.0, 1.0), rotation=0.0, bend=(0.0, 0.0))
    grid = bend.draw(64, 96, 64, torch.device("cpu"))
    flat = straight.draw(1, 96, 64, torch.device("cpu"))[0].abs()  # mirrored or not
    pixels = (grid.abs() - flat)[:, 24:72, 16:48] * torch.tensor([64, 96]) / 2
    assert pixels.std().item() == pytest.approx(2 * 5 / 6, rel=0.1)


def test_works_on_any_number_of_channels_and_keeps_the_type():
    out = RandSpatialBatch()(torch.randn(2, 3, 16, 24, dtype=torch.float64))
    assert out.shape == (2, 3, 16, 24)
    assert out.dtype == torch.float64


def test_refuses_what_makes_no_sense():
    with pytest.raises(ValueError, match=r"probability must lie in \[0, 1\], got 1.5"):
        RandSpatialBatch(probability=1.5)
    with pytest.raises(ValueError, match=r"scale must be .* got \(1.3, 0.7\)"):
        RandSpatialBatch(scale=(1.3, 0.7))
    with pytest.raises(ValueError, match="rotation must be 0 or more, bend_spacing positive, got -1"):
        RandSpatialBatch(rotation=-1)
    with pytest.raises(ValueError, match=r"bend must be .* got \(4.0, 1.0\)"):
        RandSpatialBatch(bend=(4.0, 1.0))
    with pytest.raises(ValueError, match="need to know each slice's group"):
        RandSpatialBatch(shared=True)(torch.randn(2, 1, 16, 16))
