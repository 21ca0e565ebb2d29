"""The distances against a direct computation in numpy and scipy."""

import itertools

import numpy as np
import pytest
import scipy.linalg
import torch

from fastgan.metrics import frechet_distance, kernel_distance, kernel_distance_variance


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


def u_statistic(x, y):
    """The unbiased squared MMD of all points, float64 [N, F] and [M, F]."""

    def kernel(a, b):
        return (a @ b.T / x.shape[1] + 1) ** 3

    def off_diagonal_mean(k):
        n = len(k)
        return (k.sum() - np.trace(k)) / (n * (n - 1))

    return off_diagonal_mean(kernel(x, x)) + off_diagonal_mean(kernel(y, y)) - 2 * kernel(x, y).mean()


def test_kernel_distance_averages_the_unbiased_estimator(clouds):
    """The mean over subsets is that of all points, but for what the choice of subsets adds to the error."""
    expected = u_statistic(*(cloud.numpy() for cloud in clouds))
    mean, error = kernel_distance(*clouds)
    of_subsets = error**2 - kernel_distance_variance(*clouds)
    assert 0 < of_subsets < error**2 / 10
    assert abs(mean - expected) < 7 * of_subsets**0.5


def draws(random, n, m, shift):
    """Two samples in 4 dimensions, of one distribution if the shift is 0."""
    return random.normal(size=(n, 4)), random.normal(size=(m, 4)) * (1 + shift / 2) + shift


@pytest.mark.parametrize("shift", [0.3, 2.0])
def test_variance_is_the_scatter_over_draws(seed, shift):
    """The mean estimate against the variance of as many distances, to seven standard errors of both."""
    random = np.random.default_rng(seed)
    found = []
    for _ in range(600):
        x, y = draws(random, 70, 50, shift)
        found.append((u_statistic(x, y), kernel_distance_variance(torch.from_numpy(x), torch.from_numpy(y))))
    distances, variances = np.array(found).T
    scatter = (distances - distances.mean()) ** 2 * 600 / 599
    error = np.sqrt((scatter.var() + variances.var()) / 600)
    assert abs(scatter.mean() - variances.mean()) < 7 * error
    assert error < 0.15 * scatter.mean()


def test_variance_is_the_one_unbiased_estimate():
    """The square of the distance less products of kernels that share no point, whose mean is the squared expectation.

    An unbiased estimate that does not depend on the order of the points is unique (Halmos 1946). In this draw neither
    variance over the points is estimated below 0.
    """
    x, y = draws(np.random.default_rng(0), 7, 6, 3.0)
    xx, yy, xy = ((a @ b.T / 4 + 1) ** 3 for a, b in ((x, x), (y, y), (x, y)))

    def square(k):
        """Of E k(x, x')."""
        return np.mean([k[i, j] * k[s, t] for i, j, s, t in itertools.permutations(range(len(k)), 4)])

    def product(k, between):
        """Of E k(x, x') and E k(x, y)."""
        return np.mean([k[i, j] * between[s].mean() for i, j, s in itertools.permutations(range(len(k)), 3)])

    pairs_x, pairs_y = (list(itertools.permutations(range(n), 2)) for n in (7, 6))
    square_between = np.mean([xy[i, j] * xy[s, t] for i, s in pairs_x for j, t in pairs_y])
    apart = np.mean([xx[pair] for pair in pairs_x]) * np.mean([yy[pair] for pair in pairs_y])
    squared_mean = (
        square(xx) + square(yy) + 4 * square_between + 2 * apart - 4 * product(xx, xy) - 4 * product(yy, xy.T)
    )
    expected = u_statistic(x, y) ** 2 - squared_mean
    assert kernel_distance_variance(torch.from_numpy(x), torch.from_numpy(y)) == pytest.approx(expected, rel=1e-8)


def test_variance_of_points_is_not_below_0():
    """Four points that all have the same kernels to the others, so that pairs are all that varies."""
    points = torch.tensor([[1.0, 0], [-1, 0], [0, 1], [0, -1]])
    off_diagonal, all_pairs = np.array([0.5, 1, 1]) ** 3, np.array([1.5, 0.5, 1, 1]) ** 3
    within = 4 * 3 * off_diagonal.var() / (4 * 1)
    between = 4 * 4 * all_pairs.var() / (3 * 3)
    expected = 2 * (2 * within / (4 * 3)) + 4 * between / (4 * 4)
    assert kernel_distance_variance(points, points) == pytest.approx(expected, rel=1e-6)


def test_variance_where_the_distributions_agree(seed):
    """There it is of pairs alone. What is estimated of points is not below 0: a little too much, not too little."""
    random = np.random.default_rng(seed)
    found = []
    for _ in range(800):
        x, y = draws(random, 70, 50, 0)
        found.append((u_statistic(x, y), kernel_distance_variance(torch.from_numpy(x), torch.from_numpy(y))))
    distances, variances = np.array(found).T
    assert variances.min() > 0
    assert 1 < variances.mean() / distances.var() < 2  # the plain jackknife is at 2
    assert (abs(distances) < 3 * np.sqrt(variances)).mean() > 0.98


def test_variance_in_chunks_and_in_float32(clouds):
    exact = kernel_distance_variance(*clouds)
    few = kernel_distance_variance(*(cloud[:63] for cloud in clouds))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fastgan.metrics.kernel_variance.CHUNK", 7)
        assert kernel_distance_variance(*clouds) == pytest.approx(exact, rel=1e-12)
        assert kernel_distance_variance(*(cloud[:63] for cloud in clouds)) == pytest.approx(few, rel=1e-12)
    assert kernel_distance_variance(*(cloud.float() for cloud in clouds)) == pytest.approx(exact, rel=1e-5)


def test_error_of_kernel_distance_is_that_of_its_mean(seed):
    """Distances over their errors, with two subsets of more points than they hold: mean square about 1."""
    random = np.random.default_rng(seed)
    found = []
    for index in range(100):
        x, y = draws(random, 700, 600, 0.5)
        found.append(kernel_distance(torch.from_numpy(x), torch.from_numpy(y), subsets=2, seed=index))
    means, errors = np.array(found).T
    assert 0.5 < means.var(ddof=1) / (errors**2).mean() < 2  # the variance of 100 draws is known to a seventh


def test_kernel_distance_repeats_itself_and_leaves_the_global_generator(clouds):
    before = torch.get_rng_state()
    first = kernel_distance(*clouds)
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(1)
    assert kernel_distance(*clouds) == first
    assert kernel_distance(*clouds, seed=1) != first


@pytest.mark.parametrize(
    ("real", "fake", "subsets", "message"),
    [
        ((600,), (600, 3), 2, r"real has shape \[600\], expected \[at least 500, F\]"),
        ((600, 3), (600, 4), 2, r"fake has shape \[600, 4\], expected \[at least 500, 3\]"),
        ((600, 3), (499, 3), 2, r"fake has shape \[499, 3\], expected \[at least 500, 3\]"),
        ((600, 3), (600, 3), 1, "subsets is 1, expected at least 2"),
        ((600, 3), (600, 3), 2.5, "subsets is 2.5, expected an integer of at least 1"),
    ],
)
def test_what_kernel_distance_refuses(real, fake, subsets, message):
    with pytest.raises(ValueError, match=f"kernel_distance: {message}"):
        kernel_distance(torch.zeros(real), torch.zeros(fake), subsets)
