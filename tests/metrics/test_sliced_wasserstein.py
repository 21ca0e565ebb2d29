"""Sliced Wasserstein distances against scipy's in one dimension, and in closed form."""

import math

import numpy as np
import pytest
import scipy.stats
import torch

from fastgan.metrics import sliced_wasserstein
from fastgan.metrics.sliced_distance import seeded_directions


@pytest.fixture
def clouds(seed):
    random = np.random.default_rng(seed)
    first = random.normal(size=(300, 5)) @ random.normal(size=(5, 5))
    second = random.exponential(size=(300, 5)) - random.normal(size=5)
    return torch.from_numpy(first), torch.from_numpy(second)


def test_the_mean_of_scipys_distances_along_the_lines(clouds):
    directions = seeded_directions(5, 40, torch.Generator().manual_seed(3)).double().numpy()
    along = [
        scipy.stats.wasserstein_distance(*(cloud.numpy() @ direction for cloud in clouds)) for direction in directions.T
    ]
    mean, error = sliced_wasserstein(*clouds, projections=40, seed=3)
    assert mean == pytest.approx(np.mean(along), rel=1e-12)
    assert error == pytest.approx(scipy.stats.sem(along), rel=1e-10)


def test_directions_are_uniform_on_the_sphere(generator):
    """Unit vectors whose mean outer product is I/D: each entry's variance is at most 3/D² (and half of 1/D² off it)."""
    count, dimension = 20_000, 4
    directions = seeded_directions(dimension, count, generator).double()
    np.testing.assert_allclose(directions.norm(dim=0), 1, rtol=1e-6)
    second_moment = directions @ directions.mT / count
    assert (directions.mean(1).abs() < 7 / math.sqrt(dimension * count)).all()
    assert (second_moment - torch.eye(dimension) / dimension).abs().max() < 7 * math.sqrt(3 / count) / dimension


def test_a_shift_in_closed_form(clouds):
    """Along a line the distance is |shift · direction|; its mean over the sphere is known, and its error estimated."""
    cloud, _ = clouds
    shift = torch.tensor([1.0, -2.0, 0.5, 0.0, 3.0], dtype=torch.float64)
    expected = shift.norm() * math.gamma(5 / 2) / (math.sqrt(math.pi) * math.gamma(3))
    mean, error = sliced_wasserstein(cloud, cloud + shift, projections=4096, seed=int(cloud.abs().sum()))
    assert 0 < error < expected / 50
    assert abs(mean - expected) < 7 * error


def test_the_same_points_in_another_order_are_no_distance_away(clouds):
    cloud, other = clouds
    assert sliced_wasserstein(cloud, cloud[torch.randperm(300)])[0] < 1e-12
    assert sliced_wasserstein(cloud, other) == sliced_wasserstein(other, cloud)
    assert sliced_wasserstein(cloud, other, seed=1) != sliced_wasserstein(cloud, other, seed=2)


def test_float32(clouds):
    exact = sliced_wasserstein(*clouds)
    assert sliced_wasserstein(*(cloud.float() for cloud in clouds)) == pytest.approx(exact, rel=1e-4)


@pytest.mark.parametrize(
    ("real", "fake", "projections", "message"),
    [
        ((5, 3), (6, 3), 10, r"fake has shape \[6, 3\], expected \[5, 3\], as real has"),
        ((5,), (5,), 10, r"real has shape \[5\], expected \[at least 1, D\]"),
        ((0, 3), (0, 3), 10, r"real has shape \[0, 3\], expected \[at least 1, D\]"),
        ((5, 3), (5, 3), 1, "projections is 1, expected at least 2"),
    ],
)
def test_wrong_points(real, fake, projections, message):
    with pytest.raises(ValueError, match=message):
        sliced_wasserstein(torch.zeros(real), torch.zeros(fake), projections)
