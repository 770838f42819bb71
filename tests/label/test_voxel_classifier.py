import math

import pytest
import torch
from torch import nn
from torch.distributions import MultivariateNormal

from medssl.label import Moments, VoxelClassifier, VoxelSample, sample_voxels, sampled_dice


class Levels(nn.Module):
    """An encoder that tells each pixel's place: its row and column, and the mean of them over squares of two."""

    def forward(self, image):
        rows, columns = torch.meshgrid(*(torch.arange(side) + 0.5 for side in image.shape[2:]), indexing="ij")
        place = torch.stack([rows, columns]).expand(len(image), -1, -1, -1)
        return [torch.cat([place, image], dim=1), nn.functional.avg_pool2d(place, 2)]


@pytest.fixture
def labels():
    return torch.randint(0, 3, (5, 8, 8), generator=torch.Generator().manual_seed(0))


def test_features_are_those_of_the_voxel_that_was_drawn(labels):
    number = torch.arange(5.0)[:, None, None, None].expand(-1, 1, 8, 8)
    sample = sample_voxels(Levels(), number, labels, num_classes=3, size=60)
    row, column, place = sample.features[:, 0].long(), sample.features[:, 1].long(), sample.features[:, 2].long()
    assert torch.equal(labels[place, row, column], sample.labels)
    # Halfway between the centres of squares; beyond those at the border it is theirs.
    torch.testing.assert_close(sample.features[:, 3:], sample.features[:, :2].clamp(1, 7))


def test_half_of_the_voxels_are_background_and_they_stand_for_all_of_their_class(labels):
    sample = sample_voxels(Levels(), torch.zeros(5, 1, 8, 8), labels, num_classes=3, size=60)
    assert torch.bincount(sample.labels).tolist() == [30, 15, 15]
    for label, count in enumerate(torch.bincount(labels.flatten())):
        assert sample.stands_for[sample.labels == label].sum() == pytest.approx(int(count))
        assert sample.counts[label] == count


def draw(means, covariance, counts, seed):
    torch.manual_seed(seed)
    parts = [MultivariateNormal(mean, covariance).sample((count,)) for mean, count in zip(means, counts, strict=True)]
    labels = torch.arange(len(means)).repeat_interleave(torch.tensor(counts))
    return VoxelSample(torch.cat(parts), labels, torch.ones(len(labels)), torch.tensor(counts))


def test_the_classifier_is_that_of_the_gaussians_the_voxels_were_drawn_from():
    means = torch.tensor([[0.0, 0.0], [2.0, 1.0], [-1.0, 2.0]])
    covariance = torch.tensor([[1.0, 0.3], [0.3, 0.5]])
    counts = [30000, 20000, 10000]
    scans = [Moments(draw(means, covariance, counts, seed)) for seed in (0, 1)]
    points = torch.randn(50, 2)
    density = torch.stack([MultivariateNormal(mean, covariance).log_prob(points) for mean in means], dim=1)
    expected = (density + torch.tensor([math.log(count / 60000) for count in counts])).softmax(dim=1)
    found = VoxelClassifier(scans, shrinkage=0.0).probabilities(points)
    torch.testing.assert_close(found, expected, atol=0.02, rtol=0)


def test_a_class_that_nobody_labelled_is_never_predicted():
    sample = draw(torch.tensor([[0.0, 0.0], [3.0, 3.0]]), torch.eye(2), [100, 100], 0)
    unseen = VoxelSample(sample.features, sample.labels, sample.stands_for, torch.tensor([100, 100, 0]))
    assert VoxelClassifier([Moments(unseen)]).probabilities(torch.randn(9, 2))[:, 2].eq(0).all()


def test_sampled_dice_is_the_dice_where_all_voxels_are_drawn():
    truth, predicted = torch.randint(0, 3, (2, 1000), generator=torch.Generator().manual_seed(0))
    sample = VoxelSample(torch.zeros(1000, 1), truth, torch.ones(1000), torch.bincount(truth))
    for label, dice in enumerate(sampled_dice(predicted, sample)):
        both = ((truth == label) & (predicted == label)).sum()
        assert dice == pytest.approx(float(2 * both / ((truth == label).sum() + (predicted == label).sum())))


def test_a_voxel_counts_for_those_it_stands_for():
    sample = VoxelSample(
        torch.zeros(3, 1), torch.tensor([0, 1, 1]), torch.tensor([10.0, 2.0, 2.0]), torch.tensor([10, 4])
    )
    assert sampled_dice(torch.tensor([1, 1, 0]), sample)[1] == pytest.approx(2 * 2 / (4 + 12))


def test_of_an_organ_that_a_scan_does_not_hold_there_is_no_dice():
    sample = VoxelSample(torch.zeros(2, 1), torch.tensor([0, 1]), torch.ones(2), torch.tensor([1, 1, 0]))
    assert sampled_dice(torch.tensor([0, 1]), sample).isnan().tolist() == [False, False, True]
