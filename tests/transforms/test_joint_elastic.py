import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Compose

from medssl.transforms import RandJointElastic, RandJointElasticBatch, RandJointElasticd
from medssl.transforms.joint_elastic import bend, num_points, sample

SIZES = [(40, 32), (12, 20, 16)]


def checkerboard(size, side=8):
    places = torch.stack(torch.meshgrid(*(torch.arange(n) // side for n in size), indexing="ij"))
    return (places.sum(dim=0) % 2)[None].float()


def elastic(**changes):
    return RandJointElastic(**{"spacing": 8.0, "magnitude": 3.0} | changes).set_random_state(0)


def displacement(points, size, spacing):
    """Of every pixel along every axis, in pixels: ``(*, n)``."""
    still = bend(torch.zeros_like(points), size, spacing)
    return ((bend(points, size, spacing) - still).flip(-1) * torch.tensor(size) / 2)[0]


@pytest.mark.parametrize("size", SIZES)
def test_image_and_labels_move_alike(size):
    board = checkerboard(size)
    out = RandJointElasticd(["image", "label"], 8.0, 3.0, mode=["bilinear", "nearest"]).set_random_state(0)(
        {"image": board, "label": board.int()}
    )
    assert not torch.equal(out["label"], board.int())
    sure = (out["image"] - 0.5).abs() > 0.26  # elsewhere the image is a mixture of neighbours
    assert sure.float().mean() > 0.5
    assert torch.equal((out["image"] > 0.5)[sure], (out["label"] == 1)[sure])


def test_images_and_labels_of_a_batch_move_alike_however_they_are_moved():
    boards = checkerboard((40, 32)).expand(3, -1, -1, -1)
    torch.manual_seed(0)
    images, labels = RandJointElasticBatch(8.0, 3.0, rotation=0.2, scale=0.15, shift=0.1)(boards, boards.int())
    sure = (images - 0.5).abs() > 0.26
    assert sure.float().mean() > 0.5
    assert set(labels.unique().tolist()) == {0, 1}
    for image, label, clear, board in zip(images, labels, sure, boards, strict=True):
        assert torch.equal((image > 0.5)[clear], (label == 1)[clear])
        assert not torch.equal(label, board.int())


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32, torch.int64])
def test_labels_take_old_values_only(size, dtype):
    labels = torch.randint(0, 200, (1, *size)).to(dtype)
    out = elastic()(labels, mode="nearest")
    assert out.dtype == dtype
    assert set(out.unique().tolist()) <= set(labels.unique().tolist())


def test_large_numbers_of_regions_stay_exact():
    labels = torch.arange(2**24 - 1600, 2**24).view(1, 40, 40)
    out = elastic()(labels, mode="nearest")
    assert set(out.unique().tolist()) <= set(labels.unique().tolist())


@pytest.mark.parametrize("size", SIZES)
def test_no_pixel_moves_further_than_the_magnitude(size):
    points = torch.empty(1, len(size), *num_points(size, 5.0)).uniform_(-4, 4)
    moved = displacement(points, size, 5.0)
    assert 0 < moved.abs().max() <= 4


def test_equal_control_points_move_the_whole_image_by_whole_pixels():
    points = torch.zeros(1, 2, *num_points((10, 12), 4.0))
    points[:, 0], points[:, 1] = 2.0, -3.0
    image = torch.rand(1, 1, 10, 12)
    moved = sample(image, bend(points, (10, 12), 4.0), "bilinear")
    torch.testing.assert_close(moved[..., :8, 3:], image[..., 2:, :-3])


def test_the_displacement_is_the_cubic_spline_of_its_control_points():
    points = torch.randn(1, 2, *num_points((9, 7), 4.0))
    moved = displacement(points, (9, 7), 4.0)

    def weight(x):
        return 2 / 3 - x**2 + x**3 / 2 if x < 1 else max(0.0, 2 - x) ** 3 / 6

    for y, x in [(0, 0), (3, 5), (8, 6)]:
        expected = sum(
            weight(abs(y / 4 + 1 - i)) * weight(abs(x / 4 + 1 - j)) * points[0, :, i, j]
            for i in range(points.shape[2])
            for j in range(points.shape[3])
        )
        torch.testing.assert_close(moved[y, x], expected, atol=1e-5, rtol=1e-4)


def test_the_docstring_states_the_standard_deviation():
    for size, share in zip([(64, 64), (32, 32, 32)], [0.28, 0.19], strict=True):
        points = torch.empty(1, len(size), *num_points(size, 3.0)).uniform_(-1, 1)
        assert displacement(points, size, 3.0).std().item() == pytest.approx(share, abs=0.02)


def test_below_two_fifths_of_the_spacing_the_image_does_not_fold():
    size, spacing = (60, 60), 10.0
    for seed in range(5):
        torch.manual_seed(seed)
        points = 4 * torch.empty(1, 2, *num_points(size, spacing)).uniform_(-1, 1).sign()
        place = displacement(points, size, spacing) + torch.stack(
            torch.meshgrid(*map(torch.arange, size), indexing="ij"), -1
        )
        dy, dx = place[1:, :-1] - place[:-1, :-1], place[:-1, 1:] - place[:-1, :-1]
        assert (dy[..., 0] * dx[..., 1] - dy[..., 1] * dx[..., 0] > 0).all()


@pytest.mark.parametrize("size", SIZES)
def test_array_and_dictionary_agree(size):
    image = torch.rand(2, *size)
    one = elastic()(image)
    other = RandJointElasticd("image", 8.0, 3.0).set_random_state(0)({"image": image, "name": "kept"})
    assert torch.equal(one, other["image"])
    assert other["name"] == "kept"


def test_the_batch_is_the_same_deformation_as_the_array_transform():
    image, labels = torch.rand(1, 40, 32), torch.randint(0, 9, (1, 40, 32))
    torch.manual_seed(0)
    bent, bent_labels = RandJointElasticBatch(8.0, 3.0)(image[None], labels[None])
    torch.manual_seed(0)
    torch.empty(1, 1).uniform_(3, 3)
    one = elastic()
    one.randomize((40, 32))
    one.points = ((2 * torch.rand(1, one.points.numel()) - 1) * 3.0).view(one.points.shape)
    torch.testing.assert_close(one(image, randomize=False), bent[0])
    assert torch.equal(one(labels, "nearest", randomize=False), bent_labels[0])


def test_images_of_a_batch_bend_each_in_its_own_way():
    image = torch.rand(1, 1, 24, 24).expand(3, -1, -1, -1)
    bent, labels = RandJointElasticBatch(8.0, 3.0)(image, (image * 9).int())
    assert not torch.equal(bent[0], bent[1])
    assert not torch.equal(labels[0], labels[1])
    assert labels.dtype == torch.int32


@pytest.mark.parametrize("size", SIZES)
def test_without_magnitude_nothing_moves(size):
    image, labels = torch.rand(1, *size), torch.randint(0, 9, (1, *size))
    torch.testing.assert_close(elastic(magnitude=0.0)(image), image)
    assert torch.equal(elastic(magnitude=0.0)(labels, "nearest"), labels)
    assert torch.equal(RandJointElasticBatch(8.0, 0.0)(image[None], labels[None])[1], labels[None])


def test_a_probability_of_zero_leaves_everything_alone():
    image = torch.rand(1, 16, 16)
    assert elastic(prob=0.0)(image) is image


def test_the_same_seed_bends_alike_and_another_differently():
    image = torch.rand(1, 16, 16)
    assert torch.equal(elastic()(image), elastic()(image))
    assert not torch.equal(elastic()(image), RandJointElastic(8.0, 3.0).set_random_state(1)(image))


def test_works_in_a_compose_and_keeps_geometry_and_type():
    affine = torch.diag(torch.tensor([2.0, 2.0, 2.5, 1.0])).double()
    scan = {"image": MetaTensor(torch.rand(1, 8, 12, 10), affine=affine), "label": np.ones((1, 8, 12, 10), np.uint8)}
    chain = Compose([RandJointElasticd(["image", "label"], 4.0, 1.0, mode=["bilinear", "nearest"])]).set_random_state(0)
    out = chain(scan)
    assert torch.equal(out["image"].affine, affine)
    assert isinstance(out["label"], np.ndarray)
    assert out["label"].dtype == np.uint8


def test_refuses_maps_of_different_sizes():
    with pytest.raises(ValueError, match=r"must have one size, got .*\(8, 8\).*\(8, 9\)"):
        RandJointElasticd(["image", "label"])({"image": torch.rand(1, 8, 8), "label": torch.rand(1, 8, 9)})
    with pytest.raises(ValueError, match="like the images"):
        RandJointElasticBatch()(torch.rand(2, 1, 8, 8), torch.zeros(2, 1, 8, 9))


def test_a_displacement_is_not_used_for_another_size_than_it_was_drawn_for():
    bent = elastic()
    with pytest.raises(ValueError, match=r"drawn for images of size \(\), got one of \(16, 16\)"):
        bent(torch.rand(1, 16, 16), randomize=False)
    bent(torch.rand(1, 16, 16))
    with pytest.raises(ValueError, match=r"drawn for images of size \(16, 16\), got one of \(16, 17\)"):
        bent(torch.rand(1, 16, 17), randomize=False)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"spacing": 0}, "spacing must be positive, got 0"),
        ({"magnitude": -1}, "magnitude must be a number or a smallest and a largest"),
        ({"magnitude": (3, 2)}, "magnitude must be a number or a smallest and a largest"),
    ],
)
@pytest.mark.parametrize("make", [RandJointElastic, RandJointElasticBatch])
def test_refuses_settings_that_make_no_displacement(make, arguments, message):
    with pytest.raises(ValueError, match=message):
        make(**arguments)


def test_refuses_an_image_without_channel():
    with pytest.raises(ValueError, match="add the channel"):
        RandJointElastic()(torch.rand(8, 8))


def test_a_batch_is_turned_scaled_and_shifted_within_what_is_asked():
    y, x = torch.meshgrid(torch.arange(33.0) - 16, torch.arange(49.0) - 24, indexing="ij")
    places = torch.stack([y, x]).expand(100, -1, -1, -1)
    settings = {"rotation": 0.3, "scale": 0.1, "shift": 0.05}
    moved, _ = RandJointElasticBatch(magnitude=0.0, **settings)(places)
    inner = moved[:, :, 12:21, 20:29]  # nothing from beyond the border
    down, right = (inner[:, :, -1, 0] - inner[:, :, 0, 0]) / 8, (inner[:, :, 0, -1] - inner[:, :, 0, 0]) / 8
    angle, size = torch.atan2(right[:, 0], right[:, 1]), right.norm(dim=1)
    assert 0.2 < angle.abs().max() <= 0.3 + 1e-4
    assert ((size - 1).abs() <= 0.1 + 1e-4).all()
    torch.testing.assert_close((down * right).sum(dim=1), torch.zeros(100), atol=1e-3, rtol=0)  # rigid in pixels
    torch.testing.assert_close(down.norm(dim=1), size, atol=1e-3, rtol=0)
    centre = moved[:, :, 16, 24].abs().amax(dim=0)
    assert (centre <= torch.tensor([33 * 0.05, 49 * 0.05]) + 1e-3).all()
    assert (centre > 0.5).all()


def test_only_slices_are_turned():
    with pytest.raises(ValueError, match="only slices are turned, got images of 3 dimensions"):
        RandJointElasticBatch(rotation=0.1)(torch.rand(1, 1, 8, 8, 8))
