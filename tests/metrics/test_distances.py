"""The distances against a direct computation in numpy and scipy."""

import numpy as np
import pytest
import scipy.linalg
import torch

from fastgan.metrics import frechet_distance, kernel_distance


@pytest.fixture
def clouds(seed):
    random = np.random.default_rng(seed)
    mix = random.normal(size=(2, 6, 6))
    first = random.normal(size=(700, 6)) @ mix[0]
    second = random.normal(size=(900, 6)) @ mix[1] + random.normal(size=6)
    return torch.from_numpy(first), torch.from_numpy(second)


def test_frechet_distance_is_heusels_formula(clouds):
    a, b = (cloud.numpy() for cloud in clouds)
    shift = a.mean(0) - b.mean(0)
    cov_a, cov_b = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    root = scipy.linalg.sqrtm(cov_a @ cov_b).real
    expected = shift @ shift + np.trace(cov_a + cov_b - 2 * root)
    assert frechet_distance(*clouds) == pytest.approx(expected, rel=1e-9)


def test_frechet_distance_of_a_shift_is_its_square(clouds):
    a, _ = clouds
    shift = torch.arange(6.0, dtype=torch.float64)
    assert frechet_distance(a, a + shift) == pytest.approx(float(shift @ shift), rel=1e-9)


def test_kernel_distance_averages_the_unbiased_estimator(clouds):
    """The mean over subsets estimates the U-statistic of all points, to a few standard errors."""
    a, b = (cloud.numpy() for cloud in clouds)

    def kernel(x, y):
        return (x @ y.T / 6 + 1) ** 3

    def off_diagonal_mean(k):
        n = len(k)
        return (k.sum() - np.trace(k)) / (n * (n - 1))

    expected = off_diagonal_mean(kernel(a, a)) + off_diagonal_mean(kernel(b, b)) - 2 * kernel(a, b).mean()
    mean, deviation = kernel_distance(*clouds)
    assert deviation > 0
    assert abs(mean - expected) < 6 * deviation / 10  # 100 subsets


def test_kernel_distance_repeats_itself_and_leaves_the_global_generator(clouds):
    before = torch.get_rng_state()
    first = kernel_distance(*clouds)
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(1)
    assert kernel_distance(*clouds) == first
    assert kernel_distance(*clouds, seed=1) != first
