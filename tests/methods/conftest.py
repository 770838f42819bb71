import copy

import pytest
import torch
import torch.nn.functional as F


@pytest.fixture
def make_batch():
    """Two subjects of 9 and 10 slices, n/2 slices each: two views, four regions in each; nine tiles and a target."""

    def make(n=4, side=32):
        generator = torch.Generator().manual_seed(0)
        first, second = torch.randn(2, n, 1, side, side, generator=generator)
        half = n // 2
        index = torch.tensor([0, 2, 5, 7][:half] + [1, 3, 6, 9][:half])
        depth = torch.tensor([9] * half + [10] * half)
        subject = torch.tensor([0] * half + [1] * half)
        squares = torch.arange(4).view(2, 2).repeat_interleave(side // 2, 0).repeat_interleave(side // 2, 1)
        regions = {"regions_1": squares.expand(n, 1, -1, -1), "regions_2": squares.flip(1).expand(n, 1, -1, -1)}
        place = {"subject": subject, "index": index, "depth": depth}
        tiles = torch.randn(n, 9, 1, 16, 16, generator=generator)
        return {
            "view_1": first,
            "view_2": second,
            **place,
            **regions,
            "num_regions": 4,
            "tiles": tiles,
            "sample": torch.arange(n) * 2 % 9,
            "target": torch.rand(n, 1, side, side, generator=generator),
        }

    return make


@pytest.fixture
def positional_by_hand():
    """Equation 2 of SAL, which is PCL's loss, as loops."""

    def loss(z, index, depth, t=0.35, tau=0.1):
        total, place = 0.0, [i / v for i, v in zip(index, depth, strict=True)]
        cosine = F.cosine_similarity(z[:, None], z[None], dim=2)
        for i in range(len(z)):
            others = [q for q in range(len(z)) if q != i]
            positives = [j for j in others if abs(place[i] - place[j]) < t]
            bottom = sum(torch.exp(cosine[i, q] / tau) for q in others)
            total = total - sum(torch.log(torch.exp(cosine[i, j] / tau) / bottom) for j in positives) / len(positives)
        return total / len(z)

    return loss


@pytest.fixture
def double():
    """Compute in float64: in float32 normalisation makes of rounding what would hide a small mistake."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.fixture
def assert_two_steps_equal():
    """Two steps of SGD with momentum on a method and on its twin, whose loss is written by hand."""

    def check(method, data, loss_by_hand):
        twin = copy.deepcopy(method)
        for model, loss in ((method, lambda model: model(data)["loss"]), (twin, loss_by_hand)):
            optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
            for step in range(2):
                torch.manual_seed(step)
                optimizer.zero_grad()
                loss(model).backward()
                optimizer.step()
        reference = twin.state_dict()
        for name, ours in method.state_dict().items():
            torch.testing.assert_close(
                ours, reference[name], rtol=1e-7, atol=1e-7, msg=lambda text, name=name: f"{name}: {text}"
            )

    return check
