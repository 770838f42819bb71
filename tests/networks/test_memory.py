import pytest
import torch
import torch.nn.functional as F
from torch import nn

from medssl.networks import Bank, Momentum, Queue


def test_the_twin_is_the_moving_average_of_the_network():
    network = nn.Linear(3, 2)
    twin = Momentum(network, momentum=0.9)
    expected = network.weight.detach().clone()
    for _ in range(3):
        with torch.no_grad():
            network.weight.add_(1.0)
        expected = 0.9 * expected + 0.1 * network.weight.detach()
        twin.follow(network)
    torch.testing.assert_close(twin.twin.weight.detach(), expected)


def test_a_root_of_the_momentum_moves_the_twin_as_far_in_the_batches_whose_gradients_are_accumulated():
    network, moved = nn.Linear(3, 2), nn.Linear(3, 2)
    once, parts = Momentum(network, momentum=0.9), Momentum(network, momentum=0.9 ** (1 / 4))
    once.follow(moved)
    for _ in range(4):
        parts.follow(moved)
    torch.testing.assert_close(parts.twin.state_dict(), once.twin.state_dict())


def test_the_twin_gets_no_gradient_and_leaves_the_networks_alone():
    network = nn.Linear(3, 2)
    twin = Momentum(network)
    assert all(p.requires_grad for p in network.parameters())
    assert not any(p.requires_grad for p in twin.parameters())


def test_the_twin_keeps_normalisation_statistics_of_its_own():
    network = nn.BatchNorm1d(3)
    twin = Momentum(network)
    network(torch.randn(8, 3) + 5)
    twin.follow(network)
    assert not torch.allclose(twin.twin.running_mean, network.running_mean)


def test_the_queue_forgets_the_oldest_first_whatever_the_batch_size():
    queue, pushed = Queue(7, 2), []
    for size in (3, 3, 2, 7, 4):
        keys = F.normalize(torch.randn(size, 2), dim=1)
        pushed += keys
        queue.push(keys * 3)  # scaled to unit length when they come in
    oldest_first = queue.keys.roll(-int(queue.place), dims=0)
    torch.testing.assert_close(oldest_first, torch.stack(pushed[-7:]))
    assert queue.place.item() == 19 % 7


def test_a_new_queue_holds_random_directions():
    torch.testing.assert_close(Queue(50, 8).keys.norm(dim=1), torch.ones(50))


def test_the_queue_comes_back_from_a_checkpoint():
    queue, other = Queue(5, 2), Queue(5, 2)
    queue.push(torch.randn(3, 2))
    other.load_state_dict(queue.state_dict())
    assert torch.equal(other.keys, queue.keys)
    assert other.place.item() == 3


def test_refuses_what_makes_no_queue_or_twin():
    with pytest.raises(ValueError, match="got 6 keys for 5 places"):
        Queue(5, 2).push(torch.randn(6, 2))
    with pytest.raises(ValueError, match="must be at least 1, got 0 and 2"):
        Queue(0, 2)
    with pytest.raises(ValueError, match=r"decay value 1\.5"):
        Momentum(nn.Linear(1, 1), 1.5)


def test_the_bank_draws_from_all_samples_but_those_it_is_told_to_leave_out():
    torch.manual_seed(0)
    bank = Bank(6, 3)
    drawn = bank.draw(400, torch.tensor([1, 4]))
    nearest = (drawn @ bank.vectors.T).argmax(dim=1)
    counts = torch.bincount(nearest, minlength=6)
    assert counts[[1, 4]].tolist() == [0, 0]
    assert (counts[[0, 2, 3, 5]] > 70).all()


def test_a_vector_of_the_bank_moves_half_the_way_and_survives_a_checkpoint():
    torch.manual_seed(0)
    bank, new = Bank(3, 2), torch.tensor([[0.0, 5.0]])
    bank.vectors[1] = torch.tensor([1.0, 0.0])
    others = bank.vectors[[0, 2]].clone()
    bank.update(torch.tensor([1]), new)
    torch.testing.assert_close(bank.vectors[1], torch.tensor([0.5, 0.5]).sqrt())
    assert torch.equal(bank.vectors[[0, 2]], others)
    again = Bank(3, 2)
    again.load_state_dict(bank.state_dict())
    assert torch.equal(again.vectors, bank.vectors)


def test_of_a_sample_that_comes_twice_the_last_vector_counts():
    torch.manual_seed(0)
    bank, twin = Bank(4, 3), Bank(4, 3)
    twin.load_state_dict(bank.state_dict())
    vectors = torch.randn(4, 3)
    bank.update(torch.tensor([0, 2, 2, 1]), vectors)
    twin.update(torch.tensor([0, 2, 1]), vectors[[0, 2, 3]])
    assert torch.equal(bank.vectors, twin.vectors)


def test_refuses_what_makes_no_bank():
    with pytest.raises(ValueError, match=r"momentum must lie in \[0, 1\), got 1; PIRL takes 0.5"):
        Bank(3, 2, momentum=1)
    with pytest.raises(ValueError, match="must be at least 1, got 0 and 2"):
        Bank(0, 2)
