import math

import pytest
import torch
from monai.losses import ContrastiveLoss
from torch._subclasses.fake_tensor import FakeTensorMode

from benchmarks.counting import count_kernels
from medssl.losses import LocalRegionContrastLoss
from medssl.losses.local_region_contrast import region_means

REGIONS = torch.tensor([[0, 0, 1], [2, 2, 1]])[None, None]  # (1, 1, 2, 3), K = 3


def paint(means, regions=REGIONS):
    """Features that are constant inside each region: the draw no longer matters."""
    return means[regions[:, 0]].movedim(-1, 1)  # (B, D, *)


def by_loops(q, p, tau, include_self, kept=None):
    """The double sum of the LRC paper over region means ``(K, D)``, summed over the regions that both views have."""
    kept = range(len(q)) if kept is None else kept
    total = 0.0
    for k1 in kept:
        bottom = 0.0
        for k2 in kept:
            bottom += math.exp(q[k1] @ p[k2] / tau)
            if include_self or k2 != k1:
                bottom += math.exp(q[k1] @ q[k2] / tau)
        total -= math.log(math.exp(q[k1] @ p[k1] / tau) / bottom)
    return total


def scaled(means):
    return torch.nn.functional.normalize(means, dim=1)


@pytest.mark.parametrize("num_samples", [5, None])
@pytest.mark.parametrize("include_self", [True, False])
@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("region_reduction", ["sum", "mean"])
def test_equals_the_double_sum_of_the_paper(num_samples, include_self, normalize, region_reduction):
    q, p = torch.randn(2, 3, 4)
    seen = (scaled(q), scaled(p)) if normalize else (q, p)
    expected = by_loops(*seen, 0.5, include_self) / (1 if region_reduction == "sum" else 3)
    loss = LocalRegionContrastLoss(num_samples, 0.5, include_self, normalize, region_reduction)
    assert loss(paint(q), REGIONS, paint(p), REGIONS).item() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("include_self", [True, False])
@pytest.mark.parametrize("region_reduction", ["sum", "mean"])
def test_says_what_it_is_when_all_regions_are_alike(include_self, region_reduction):
    loss = LocalRegionContrastLoss(5, include_self=include_self, region_reduction=region_reduction)
    regions = torch.cat([REGIONS, REGIONS.clamp(max=1)])  # an image of three regions, one of two
    flat = torch.ones(2, 4, 2, 3)
    _, _, kept = loss.means(flat, regions, flat, regions, 3)
    assert loss.collapsed(kept).item() == pytest.approx(loss(flat, regions, flat, regions).item(), rel=1e-6)


@pytest.mark.parametrize(("include_self", "expected"), [(True, 39.7559090), (False, 32.7720299)])
def test_has_the_value_that_the_formula_gives_by_hand(include_self, expected):
    i, j = torch.meshgrid(torch.arange(4.0), torch.arange(5.0), indexing="ij")
    q, p = torch.sin(5 * i + j + 1), torch.cos(5 * i + j + 1)
    regions = torch.arange(4).view(1, 1, 2, 2)
    loss = LocalRegionContrastLoss(num_samples=3, include_self=include_self)
    assert loss(paint(q, regions), regions, paint(p, regions), regions).item() == pytest.approx(expected, rel=1e-6)


def test_both_directions_without_the_self_term_are_nt_xent():
    q, p = torch.randn(2, 3, 4)
    loss = LocalRegionContrastLoss(temperature=0.1, include_self=False)
    both = loss(paint(q), REGIONS, paint(p), REGIONS) + loss(paint(p), REGIONS, paint(q), REGIONS)
    torch.testing.assert_close(both / 6, ContrastiveLoss(temperature=0.1)(q, p))  # MONAI's


def test_whole_regions_are_averaged_over_every_pixel():
    features = torch.randn(1, 4, 2, 3)
    means, there = region_means(features, REGIONS, 4, None)
    expected = torch.stack([features[0][:, REGIONS[0, 0] == k].mean(dim=1) for k in range(3)])
    torch.testing.assert_close(means[0, :3], expected)
    assert there.tolist() == [[True, True, True, False]]


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_draws_lie_in_their_region_and_are_uniform_there(memory_format):
    regions = torch.tensor([-1, 0, 1, 2]).repeat(10)[torch.randperm(40)].view(2, 1, 4, 5)
    regions[:, 0, 0, :3] = torch.arange(3)  # every region in both images
    places = torch.eye(20).view(1, 20, 4, 5).repeat(2, 1, 1, 1).contiguous(memory_format=memory_format)
    frequency, there = region_means(places, regions, 3, 20_000)  # (2, 3, 20), how often each pixel was drawn
    assert there.all()
    for image in range(2):
        for k in range(3):
            inside = (regions[image, 0] == k).flatten()
            torch.testing.assert_close(frequency[image, k], inside / inside.sum(), atol=0.02, rtol=0)
            assert not frequency[image, k][~inside].any()


@pytest.mark.parametrize("num_samples", [7, None])
@pytest.mark.parametrize("include_self", [True, False])
def test_images_may_have_different_numbers_of_regions_and_do_not_repel_each_other(num_samples, include_self):
    loss = LocalRegionContrastLoss(num_samples, include_self=include_self)
    q, p = torch.randn(2, 3, 4)
    two_regions = REGIONS.clamp(max=1)
    apart = [
        loss(paint(q), REGIONS, paint(p), REGIONS),
        loss(paint(p, two_regions), two_regions, paint(q, two_regions), two_regions),
    ]
    together = loss(
        torch.cat([paint(q), paint(p, two_regions)]),
        torch.cat([REGIONS, two_regions]),
        torch.cat([paint(p), paint(q, two_regions)]),
        torch.cat([REGIONS, two_regions]),
    )
    torch.testing.assert_close(together, torch.stack(apart).mean())


@pytest.mark.parametrize("num_samples", [7, None])
@pytest.mark.parametrize("include_self", [True, False])
@pytest.mark.parametrize(("region_reduction", "share"), [("sum", 1), ("mean", 1 / 2)])
def test_a_region_lost_in_the_deformation_is_left_out_and_gets_no_gradient(
    num_samples, include_self, region_reduction, share
):
    q, p = torch.randn(3, 4, requires_grad=True), torch.randn(3, 4)
    warped = REGIONS.clamp(max=1)
    contrast = LocalRegionContrastLoss(num_samples, include_self=include_self, region_reduction=region_reduction)
    loss = contrast(paint(q), REGIONS, paint(p, warped), warped)
    expected = share * by_loops(scaled(q.detach()), scaled(p), 0.1, include_self, kept=[0, 1])
    assert loss.item() == pytest.approx(expected, rel=1e-4)
    loss.backward()
    assert q.grad[:2].any()
    assert not q.grad[2].any()


@pytest.mark.parametrize("num_samples", [7, None])
@pytest.mark.parametrize("region_reduction", ["sum", "mean"])
def test_views_that_share_no_region_cost_nothing(num_samples, region_reduction):
    q = torch.randn(1, 4, 2, 3, requires_grad=True)
    for other in (torch.full_like(REGIONS, -1), REGIONS + 3):
        loss = LocalRegionContrastLoss(num_samples, region_reduction=region_reduction)(q, REGIONS, q, other)
        loss.backward()
        assert loss.item() == 0
        assert not q.grad.any()


@pytest.mark.parametrize("num_samples", [7, None])
def test_numbers_below_zero_and_from_num_regions_on_belong_to_no_region(num_samples):
    q, p = torch.randn(2, 3, 4)
    loss = LocalRegionContrastLoss(num_samples)
    expected = by_loops(scaled(q), scaled(p), 0.1, True, kept=[0, 1])
    unnumbered = torch.where(REGIONS == 2, -1, REGIONS)
    assert loss(paint(q), unnumbered, paint(p), unnumbered).item() == pytest.approx(expected, rel=1e-4)
    assert loss(paint(q), REGIONS, paint(p), REGIONS, num_regions=2).item() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("num_samples", [7, None])
def test_a_larger_bound_on_the_number_of_regions_changes_nothing(num_samples):
    q, p = torch.randn(2, 3, 4)
    loss = LocalRegionContrastLoss(num_samples)
    exact = loss(paint(q), REGIONS, paint(p), REGIONS)
    torch.testing.assert_close(loss(paint(q), REGIONS, paint(p), REGIONS, num_regions=9), exact)


@pytest.mark.parametrize(("include_self", "constant"), [(True, math.log(6)), (False, math.log(5))])
def test_equal_features_sit_at_the_constant_of_collapse(include_self, constant):
    equal = torch.ones(1, 4, 2, 3)
    loss = LocalRegionContrastLoss(include_self=include_self, region_reduction="mean")(equal, REGIONS, equal, REGIONS)
    assert loss.item() == pytest.approx(constant, rel=1e-5)


def test_as_printed_it_cannot_fall_below_ln_2():
    perfect = paint(torch.eye(3))
    loss = LocalRegionContrastLoss(temperature=0.01, region_reduction="mean")
    assert loss(perfect, REGIONS, perfect, REGIONS).item() == pytest.approx(math.log(2), rel=1e-5)


def test_long_vectors_do_not_overflow():
    q = 8 * torch.ones(3, 64) * torch.tensor([[1.0], [-1.0], [0.5]])  # products of 640 over .1: exp would be infinite
    q.requires_grad_()
    loss = LocalRegionContrastLoss(temperature=0.1, normalize=False)(paint(q), REGIONS, paint(q.detach()), REGIONS)
    loss.backward()
    assert loss.isfinite()
    assert q.grad.isfinite().all()


@pytest.mark.parametrize("num_samples", [7, None])
def test_the_gradient_goes_through_both_views(num_samples):
    q, p = torch.randn(2, 1, 4, 2, 3, requires_grad=True)
    q.retain_grad()
    p.retain_grad()
    LocalRegionContrastLoss(num_samples)(q, REGIONS, p, REGIONS).backward()
    assert q.grad.any()
    assert p.grad.any()


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("num_samples", [7, None])
def test_the_gradient_is_that_of_the_loss_however_features_lie_in_memory(memory_format, num_samples):
    def loss(q, p):
        torch.manual_seed(0)  # the same draw at every call
        q, p = (x.contiguous(memory_format=memory_format) for x in (q, p))
        return LocalRegionContrastLoss(num_samples)(q, REGIONS, p, REGIONS)

    views = [torch.randn(1, 4, 2, 3, dtype=torch.float64, requires_grad=True) for _ in range(2)]
    assert torch.autograd.gradcheck(loss, views)


@pytest.mark.parametrize("num_samples", [7, None])
def test_memory_layout_does_not_change_the_value(num_samples):
    q, p, regions = torch.randn(2, 8, 6, 5), torch.randn(2, 8, 6, 5), torch.randint(0, 4, (2, 1, 6, 5))
    losses = []
    for memory_format in (torch.contiguous_format, torch.channels_last):
        torch.manual_seed(1)
        views = [x.contiguous(memory_format=memory_format) for x in (q, p)]
        losses.append(LocalRegionContrastLoss(num_samples)(views[0], regions, views[1], regions))
    torch.testing.assert_close(*losses)


@pytest.mark.parametrize("size", [(7,), (3, 4), (2, 3, 4)])
@pytest.mark.parametrize("num_samples", [7, None])
def test_any_number_of_spatial_dimensions(size, num_samples):
    q, p = torch.randn(2, 3, 4)
    regions = (torch.arange(math.prod(size)) % 3).view(1, 1, *size)
    loss = LocalRegionContrastLoss(num_samples)(paint(q, regions), regions, paint(p, regions), regions)
    assert loss.item() == pytest.approx(by_loops(scaled(q), scaled(p), 0.1, True), rel=1e-4)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("num_samples", [7, None])
def test_half_precision_features_give_the_loss_in_full_precision(dtype, num_samples):
    q, p = paint(torch.randn(3, 16)).to(dtype).requires_grad_(), paint(torch.randn(3, 16)).to(dtype)
    loss = LocalRegionContrastLoss(num_samples)
    expected = loss(q.detach().float(), REGIONS, p.float(), REGIONS)
    with torch.autocast("cpu", torch.bfloat16):
        value = loss(q, REGIONS, p, REGIONS)
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, expected)
    value.backward()
    assert q.grad.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32, torch.int64])
def test_regions_may_be_any_integers(dtype):
    q, p = torch.randn(2, 3, 4)
    loss = LocalRegionContrastLoss()(paint(q), REGIONS.to(dtype), paint(p), REGIONS.to(dtype))
    assert loss.item() == pytest.approx(by_loops(scaled(q), scaled(p), 0.1, True), rel=1e-4)


@pytest.mark.parametrize("num_samples", [7, None])
def test_never_waits_for_the_device_when_it_is_told_the_number_of_regions(num_samples):
    with FakeTensorMode():
        q = torch.randn(2, 4, 6, 6, requires_grad=True)
        regions = torch.zeros(2, 1, 6, 6, dtype=torch.int32)
        LocalRegionContrastLoss(num_samples)(q, regions, q, regions, num_regions=5).backward()


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_runs_as_many_kernels_for_any_number_of_images_pixels_and_regions(memory_format):
    def kernels(images, size, regions):
        q = torch.randn(images, 4, size, size).contiguous(memory_format=memory_format).requires_grad_()
        labels = torch.randint(regions, (images, 1, size, size))
        loss = LocalRegionContrastLoss()
        return count_kernels(lambda: loss(q, labels, q, labels, num_regions=regions).backward())

    assert kernels(2, 4, 3) == kernels(5, 4, 3) == kernels(2, 32, 3) == kernels(2, 4, 30) <= 120


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_samples": 0}, "num_samples must be at least 1, or None for whole regions, got 0"),
        ({"temperature": 0.0}, "temperature must be positive, got 0.0"),
        ({"region_reduction": "max"}, "region_reduction must be sum or mean, got 'max'"),
    ],
)
def test_refuses_settings_that_make_no_loss(arguments, message):
    with pytest.raises(ValueError, match=message):
        LocalRegionContrastLoss(**arguments)


@pytest.mark.parametrize("regions", [REGIONS[..., :2], REGIONS[0], REGIONS.float()])
def test_refuses_regions_that_do_not_cover_the_features(regions):
    with pytest.raises(ValueError, match=r"regions must be integers \(1, 1, 2, 3\), one per vector"):
        LocalRegionContrastLoss()(torch.randn(1, 4, 2, 3), REGIONS, torch.randn(1, 4, 2, 3), regions)
