"""One optimiser step of each method against the formulas written out as loops."""

import copy
import math

import pytest
import torch
import torch.nn.functional as F

from medssl.methods import PCL, SAL
from medssl.networks import UNet, UNetEncoder, linear_head, load_pretrained, mlp_head, part_state


def batch(n=4, side=32):
    """Two subjects of 9 and 10 slices, n/2 slices each, two views."""
    generator = torch.Generator().manual_seed(0)
    first, second = torch.randn(2, n, 1, side, side, generator=generator)
    half = n // 2
    index = torch.tensor([0, 2, 5, 7][:half] + [1, 3, 6, 9][:half])
    depth = torch.tensor([9] * half + [10] * half)
    return {
        "view_1": first,
        "view_2": second,
        "subject": torch.tensor([0] * half + [1] * half),
        "index": index,
        "depth": depth,
    }


def make_sal(**kwargs):
    torch.manual_seed(0)
    encoder = UNetEncoder(width=2, centre_norm=True)
    return SAL(encoder, linear_head(32, 8, norm=True), torch.nn.Conv2d(16, 16, 1), **kwargs)


def make_pcl(**kwargs):
    torch.manual_seed(0)
    return PCL(UNetEncoder(width=2, centre_norm=True), mlp_head(32, 8, norm=True), **kwargs)


def positional_by_hand(z, index, depth, t=0.35, tau=0.1):
    total, place = 0.0, [i / v for i, v in zip(index, depth, strict=True)]
    cos = lambda i, j: F.cosine_similarity(z[i], z[j], dim=0)  # noqa: E731
    for i in range(len(z)):
        others = [q for q in range(len(z)) if q != i]
        positives = [j for j in others if abs(place[i] - place[j]) < t]
        bottom = sum(torch.exp(cos(i, q) / tau) for q in others)
        total = total - sum(torch.log(torch.exp(cos(i, j) / tau) / bottom) for j in positives) / len(positives)
    return total / len(z)


def alignment_by_hand(x, subject, index, depth, within_view, window=2, t=0.35):
    x, pairs, half = F.normalize(x, dim=1), [], len(x) // 2
    for i in range(len(x)):
        for j in range(len(x)):
            close = subject[i] == subject[j] and abs(index[i] - index[j]) < t * depth[i]
            if i != j and close and (not within_view or (i < half) == (j < half)):
                pairs.append((i, j))
    height, width, losses = *x.shape[2:], []
    for i, j in pairs:
        for y in range(height):
            for z in range(width):
                top, left = y // window * window, z // window * window
                block = x[j][:, top : top + window, left : left + window].flatten(1)
                losses.append(1 - (x[i][:, y, z] @ block).max())
    return sum(losses) / len(losses)


def by_hand(method, data, within_view):
    """Loss of the method from its parts and the papers' formulas."""
    features = [method.encoder(data[view]) for view in ("view_1", "view_2")]
    z = torch.cat([method.head(f[-1].mean(dim=(2, 3))) for f in features])
    place = [data[key].repeat(2).tolist() for key in ("subject", "index", "depth")]
    loss = positional_by_hand(z, *place[1:])
    if isinstance(method, SAL):
        x = method.embedding(torch.cat([f[3] for f in features]))
        loss = loss + method.alignment_weight * alignment_by_hand(x, *place, within_view)
    return loss


@pytest.mark.parametrize("within_view", [False, True])
@pytest.mark.parametrize("make", [make_sal, make_pcl])
def test_one_step_equals_the_step_by_hand(make, within_view):
    data = batch()
    options = {"within_view": within_view, "alignment_weight": 2.0} if make is make_sal else {}
    method = make(**options)
    twin = copy.deepcopy(method)
    for model, loss in ((method, method(data)["loss"]), (twin, by_hand(twin, data, within_view))):
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        loss.backward()
        optimizer.step()
    for (name, ours), theirs in zip(method.named_parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5, msg=lambda text, name=name: f"{name}: {text}")


def test_without_alignment_sal_is_the_positional_loss():
    data = batch()
    output = make_sal(alignment_weight=0.0)(data)
    torch.testing.assert_close(output["loss"], output["positional"])
    pcl = PCL(*[copy.deepcopy(part) for part in (make_sal().encoder, make_sal().head)])
    torch.testing.assert_close(pcl(data)["loss"], output["loss"])


def test_the_reference_factor_of_pcl_scales_the_loss():
    data = batch()
    ratio = make_pcl(base_temperature=0.07)(data)["loss"] / make_pcl()(data)["loss"]
    assert ratio.item() == pytest.approx(0.1 / 0.07, rel=1e-5)


def test_pairs_stay_inside_a_volume_and_a_view_where_asked():
    data = batch()
    pairs = make_sal().pairs(*(data[k] if k == "subject" else data[k].repeat(2) for k in ("subject", "index", "depth")))
    subject = data["subject"].repeat(2)
    assert not pairs[subject[:, None] != subject].any()
    assert not pairs.diagonal().any()
    assert pairs[0, 4]  # the other view of one slice is a pair
    within = make_sal(within_view=True).pairs(data["subject"], data["index"].repeat(2), data["depth"].repeat(2))
    assert not within[:4, 4:].any()
    assert within.sum() < pairs.sum()


def test_features_constant_over_the_plane_no_longer_align_once_centred():
    data = batch()
    for centred, expected in ((False, 0.0), (True, 1.0)):
        method = make_sal(centred=centred)
        torch.nn.init.zeros_(method.embedding.weight)
        torch.nn.init.ones_(method.embedding.bias)
        assert method(data)["alignment"].item() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("make", [make_sal, make_pcl])
class TestContract:
    def test_every_trainable_parameter_gets_a_gradient(self, make):
        method = make()
        loss = method(batch())["loss"]
        assert loss.shape == ()
        assert torch.isfinite(loss)
        loss.backward()
        assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in method.parameters())

    def test_evaluation_changes_no_buffer(self, make):
        method = make().eval()
        before = copy.deepcopy(dict(method.named_buffers()))
        method(batch())
        assert all(torch.equal(value, before[name]) for name, value in method.named_buffers())

    def test_bfloat16_gives_a_float32_loss_close_by(self, make):
        data = batch()
        with torch.autocast("cpu", torch.bfloat16):
            half = make()(data)["loss"]
        assert half.dtype == torch.float32
        assert half.item() == pytest.approx(make()(data)["loss"].item(), rel=0.1)

    def test_what_it_exports_fits_the_network(self, make, tmp_path):
        network = UNet(4, width=2, centre_norm=True)
        method = make()
        method.encoder = network.encoder
        torch.save(part_state(network, ["encoder"]), tmp_path / "model.pt")
        assert load_pretrained(UNet(7, width=2, centre_norm=True), tmp_path / "model.pt")

    def test_batch_statistics_see_one_view_at_a_time(self, make):
        data = batch()
        shifted = {**data, "view_2": data["view_2"] * 5 + 3}
        seen = []
        method = make()
        method.encoder.levels[0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
        method(shifted)
        assert len(seen) == 2
        assert torch.equal(seen[0], shifted["view_1"])


def test_the_loss_of_noise_without_a_normalised_centre_sits_at_its_collapse_constant():
    """Why the centre is normalised at small widths: methods collapse before the first step."""
    torch.manual_seed(0)
    pcl = PCL(UNetEncoder(width=4), mlp_head(64, 8))
    output = pcl(batch(side=64))
    assert output["loss"].item() == pytest.approx(math.log(7), rel=0.02)
    assert output["spread"].item() < 0.15
