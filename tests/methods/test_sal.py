import copy

import pytest
import torch
import torch.nn.functional as F

from medssl.methods import PCL, SAL
from medssl.networks import Pointwise, UNetEncoder, linear_head, simsiam_predictor


def make_sal(**kwargs):
    torch.manual_seed(0)
    encoder = UNetEncoder(width=2, centre_norm=True)
    return SAL(encoder, linear_head(32, 8, norm=True), torch.nn.Conv2d(16, 16, 1), **kwargs)


def alignment_by_hand(x, targets, subject, index, depth, within_view, window=2, t=0.35):
    x, targets, pairs, half = F.normalize(x, dim=1), F.normalize(targets, dim=1), [], len(x) // 2
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
                block = targets[j][:, top : top + window, left : left + window].flatten(1)
                losses.append(1 - (x[i][:, y, z] @ block).max())
    return sum(losses) / len(losses)


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize(
    "changes",
    [dict, lambda: {"within_view": True}, lambda: {"predictor": Pointwise(simsiam_predictor(16))}],
    ids=["plain", "within_view", "predictor"],
)
def test_two_steps_equal_those_by_hand(changes, make_batch, positional_by_hand, assert_two_steps_equal):
    data = make_batch()
    place = [data[key].repeat(2).tolist() for key in ("subject", "index", "depth")]

    def loss_by_hand(method):
        features = [method.encoder(data[view]) for view in ("view_1", "view_2")]
        z = torch.cat([method.head(f[-1].mean(dim=(2, 3))) for f in features])
        x = targets = method.embedding(torch.cat([f[3] for f in features]))
        if method.predictor is not None:
            x, targets = method.predictor(x), x.detach()
        aligned = alignment_by_hand(x, targets, *place, method.within_view)
        return positional_by_hand(z, *place[1:]) + 2.0 * aligned

    assert_two_steps_equal(make_sal(alignment_weight=2.0, **changes()), data, loss_by_hand)


def test_without_alignment_it_is_the_positional_loss(make_batch):
    data = make_batch()
    method = make_sal(alignment_weight=0.0)
    output = method(data)
    torch.testing.assert_close(output["loss"], output["positional"])
    pcl = PCL(copy.deepcopy(method.encoder), copy.deepcopy(method.head))
    torch.testing.assert_close(pcl(data)["loss"], output["loss"])


def test_pairs_are_samples_of_one_volume_and_where_asked_of_one_view(make_batch):
    data = make_batch()
    place = [data[key] for key in ("subject", "index", "depth")]
    # Of each subject: slice a, slice b in view 1, then in view 2. Slices 0 and 2 of 9 are close, so are 1 and 3 of 10.
    every, within = make_sal().pairs(*place), make_sal(within_view=True).pairs(*place)
    assert torch.equal(every, (1 - torch.eye(4)).bool().expand(2, 4, 4))
    assert torch.equal(within, torch.block_diag(*2 * [1 - torch.eye(2)]).bool().expand(2, 4, 4))


def test_pairs_far_apart_are_left_out(make_batch):
    data = make_batch()
    pairs = make_sal(threshold=0.2).pairs(data["subject"], data["index"], data["depth"])
    assert not pairs[0, 0, 1]  # 2 of 9 slices apart
    assert pairs[0, 0, 2]  # the other view of the slice


def test_a_slice_that_was_drawn_twice_is_not_aligned_with_itself_in_one_view(make_batch):
    data = make_batch()
    repeated = data["index"].clone()
    repeated[1] = repeated[0]
    within = make_sal(within_view=True).pairs(data["subject"], repeated, data["depth"])
    assert not within[0].any()
    assert within[1].any()


def test_an_odd_batch_is_refused(make_batch):
    odd = {key: value[:-1] if torch.is_tensor(value) else value for key, value in make_batch().items()}
    with pytest.raises(ValueError, match="a batch must have an even number of slices, half of them of each subject"):
        make_sal()(odd)
