"""The maximum mean discrepancy against double loops, and what an unbiased estimate has to be."""

import re
from functools import partial

import numpy as np
import pytest
import torch
from scipy import integrate, stats

from fastgan.losses import maximum_mean_discrepancy, mmd, mmd_with
from fastgan.losses.kernels import KERNELS, gaussian, rational_quadratic
from fastgan.losses.mmd_loss import squared_distances

# Kernels of d^2 once more, one number at a time.
TEXTBOOK = {
    "rational_quadratic": lambda d: sum((1 + d / (2 * a)) ** -a for a in (0.2, 0.5, 1, 2, 5)),
    "gaussian": lambda d: sum(np.exp(-d / (2 * w * w)) for w in (1, 2, 4, 8, 16)),
}
EVERY = pytest.mark.parametrize("kernel", KERNELS)


def in_loops(x, y, kernel):
    """The U-statistic by its definition, pair by pair, in float64."""
    x, y = (np.asarray(points.detach().double()) for points in (x, y))
    value = 0.0
    for points in (x, y):
        n = len(points)
        for i in range(n):
            for j in range(n):
                if i != j:
                    value += kernel(((points[i] - points[j]) ** 2).sum()) / (n * (n - 1))
    for a in x:
        for b in y:
            value -= 2 * kernel(((a - b) ** 2).sum()) / (len(x) * len(y))
    return value


def samples(generator, n=7, m=5, features=3, dtype=torch.float64):
    return (torch.randn(size, features, dtype=dtype, generator=generator) for size in (n, m))


@EVERY
@pytest.mark.parametrize(("n", "m", "features"), [(7, 5, 3), (2, 2, 1), (2, 9, 4), (6, 6, 0)])
def test_it_is_the_double_loop(kernel, n, m, features, generator):
    x, y = samples(generator, n, m, features)
    y = 1.5 * y + 0.7
    expected = in_loops(x, y, TEXTBOOK[kernel])
    found = maximum_mean_discrepancy(x, y, KERNELS[kernel])
    assert found.item() == pytest.approx(expected, rel=1e-12, abs=1e-13)
    game = mmd_with(kernel)
    assert game.critic(x, y) == -found
    torch.testing.assert_close(game.generator(y, x), found, rtol=1e-12, atol=1e-13)


@EVERY
def test_its_derivatives(kernel, generator):
    x, y = (points.requires_grad_() for points in samples(generator, 4, 3, 2))
    function = partial(maximum_mean_discrepancy, kernel=KERNELS[kernel])
    assert torch.autograd.gradcheck(function, (x, y))
    assert torch.autograd.gradgradcheck(function, (x, y))


def test_the_gradient_is_the_sum_over_pairs(generator):
    """Of one Gaussian: dk/dx_i = -(x_i - x_j) k, written out."""
    x, y = samples(generator)
    x.requires_grad_()
    value = maximum_mean_discrepancy(x, y, partial(gaussian, widths=(1.3,)))
    (found,) = torch.autograd.grad(value, x)
    n, m = len(x), len(y)
    points, others = x.detach().numpy(), y.numpy()
    expected = np.zeros_like(points)
    for i in range(n):
        pairs = [(p, 2 / (n * (n - 1))) for p in np.delete(points, i, 0)] + [(p, -2 / (n * m)) for p in others]
        for other, weight in pairs:
            step = points[i] - other
            expected[i] -= weight * step / 1.3**2 * np.exp(-(step @ step) / (2 * 1.3**2))
    np.testing.assert_allclose(found, expected, rtol=1e-11, atol=1e-14)


@EVERY
def test_second_derivatives_of_coincident_points(kernel):
    """k'(0) of coincident points is in the Hessian: a distance clamped at 0 would lose it."""
    x = torch.zeros(2, 2, dtype=torch.float64, requires_grad=True)
    y = torch.tensor([[3.0, 0.0], [3.0, 0.0]], dtype=torch.float64)
    function = partial(maximum_mean_discrepancy, y=y, kernel=KERNELS[kernel])
    found = torch.autograd.functional.hessian(function, x).view(4, 4)
    value, step = TEXTBOOK[kernel], 1e-4
    expected = np.zeros((4, 4))
    for i in range(4):
        for j in range(4):
            for a, b in ((1, 1), (1, -1), (-1, 1), (-1, -1)):
                moved = np.zeros(4)
                moved[i] += a * step
                moved[j] += b * step
                points = torch.tensor(moved).view(2, 2)
                expected[i, j] += a * b * in_loops(points, y, value) / (4 * step**2)
    assert abs(expected[0, 2]) > 0.1
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)  # of central differences: h^2 f'''' and eps / h^2


def of_normals(kernel, shift):
    """MMD^2 of N(0, I) and N((shift, shift), I) in closed form.

    The mean of exp(-t ||x - y||^2 / 2) is exp(-t ||v||^2 / (2 (1 + 2 t))) / (1 + 2 t) in two dimensions, for a
    difference with the mean v and the variance 2; a rational-quadratic kernel is that for t of a gamma density.
    """

    def gap(t):
        return 2 * (1 - np.exp(-t * 2 * shift**2 / (2 * (1 + 2 * t)))) / (1 + 2 * t)

    if kernel == "gaussian":
        return sum(gap(1 / w**2) for w in (1, 2, 4, 8, 16))
    densities = [stats.gamma(a, scale=1 / a) for a in (0.2, 0.5, 1, 2, 5)]
    # By quantiles, because the density of a shape below 1 is infinite at 0.
    return sum(integrate.quad(lambda share, d=d: gap(d.ppf(share)), 0, 1)[0] for d in densities)


@EVERY
@pytest.mark.parametrize("shift", [0.0, 1.0])
def test_it_is_unbiased(kernel, shift, generator):
    """The mean over many small batches of different sizes is the discrepancy of the distributions."""
    batches, n, m = 4000, 3, 2
    x = torch.randn(batches, n, 2, dtype=torch.float64, generator=generator)
    y = torch.randn(batches, m, 2, dtype=torch.float64, generator=generator) + shift
    values = torch.func.vmap(partial(maximum_mean_discrepancy, kernel=KERNELS[kernel]))(x, y)
    error = values.std().item() / batches**0.5
    assert values.mean().item() == pytest.approx(of_normals(kernel, shift), abs=5.5 * error)


def test_distances_that_rounding_makes_negative_have_their_second_derivative(generator):
    """The Hessian of ||x - y||^2 in x is 2 I, also where it comes out below 0."""
    y = torch.randn(200, 5, dtype=torch.float64, generator=generator)
    x = y.clone().requires_grad_()
    direction = torch.randn(200, 5, dtype=torch.float64, generator=generator)
    d = squared_distances(x, y).diagonal()
    assert (d >= 0).all()
    (slope,) = torch.autograd.grad(d.sum(), x, create_graph=True)
    (second,) = torch.autograd.grad((slope * direction).sum(), x)
    torch.testing.assert_close(second, 2 * direction, rtol=1e-12, atol=1e-12)


def test_constants_added_and_order_do_not_matter(generator):
    x, y = samples(generator)
    expected = maximum_mean_discrepancy(x, y)
    torch.testing.assert_close(maximum_mean_discrepancy(x.flip(0) + 100, y + 100), expected, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(maximum_mean_discrepancy(y, x), expected, rtol=1e-12, atol=1e-14)


def test_distances_do_not_cancel_far_from_the_origin(generator):
    """Around 1e4 the norms are 1e8, of which float32 keeps steps of 8: without a centre nothing would be left."""
    x, y = samples(generator, 20, 30, 4, torch.float32)
    x, y = x + 1e4, y + 1e4
    exact = (x.double()[:, None] - y.double()).square().sum(2)
    # Each of the three sums has at most F + 2 roundings of numbers below the largest norm around the centre.
    centred = torch.cat([x, y]).double()
    largest = (centred - centred.mean(0)).square().sum(1).max().item()
    bound = 4 * 6 * 2 * largest * torch.finfo(torch.float32).eps + 2e-3 * largest**0.5
    assert (squared_distances(x, y).double() - exact).abs().max().item() < bound
    far = maximum_mean_discrepancy(x - 2e4, y)  # two clusters at a great distance: each keeps its own centre
    expected = in_loops(x - 2e4, y, TEXTBOOK["rational_quadratic"])
    assert far.item() == pytest.approx(expected, rel=1e-5)


@EVERY
@pytest.mark.parametrize("size", [1e2, 1e4])
def test_large_features_are_as_right_in_float32_as_in_float64(kernel, size, generator):
    # No two points are near: of those, float32 does not know the distance.
    grid = torch.randperm(40, generator=generator).double()[:24].view(12, 2) - 20
    x, y = (size / 20 * grid).split([7, 5])

    def all_of(dtype):
        first, second = (points.to(dtype).requires_grad_() for points in (x, y))
        value = maximum_mean_discrepancy(first, second, KERNELS[kernel])
        return [value, *torch.autograd.grad(value, (first, second))]

    # The value is a difference of means of kernels, each known to what rounding leaves of the distances.
    largest = KERNELS[kernel](squared_distances(x, y)).mean().item()
    for single, exact in zip(all_of(torch.float32), all_of(torch.float64), strict=True):
        assert exact.isfinite().all()
        scale = max(largest, 1e-25) if exact.ndim == 0 else exact.abs().max().item() + 1e-25
        torch.testing.assert_close(single.double(), exact, rtol=1e-4, atol=1e-5 * scale)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_float32(dtype, generator):
    x, y = (points.to(dtype) for points in samples(generator, 30, 20, 8))
    expected = maximum_mean_discrepancy(x.float(), y.float())
    found = maximum_mean_discrepancy(x, y)
    assert found.dtype == torch.float32
    assert found == expected
    leaf = (1e4 * x).requires_grad_()
    value = maximum_mean_discrepancy(leaf, 1e4 * y)
    (pull,) = torch.autograd.grad(value, leaf)
    assert value.isfinite()
    assert pull.dtype == dtype
    assert pull.isfinite().all()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert maximum_mean_discrepancy(x.float(), y.float()) == expected


def test_far_points_are_not_lost_beside_the_diagonal():
    """Off the diagonal the kernel is 1e-12 here, of which nothing is left after adding n and subtracting it again."""
    x = torch.tensor([[0.0], [7.4]])
    y = x + 100
    kernel = partial(gaussian, widths=(1.0,))
    assert maximum_mean_discrepancy(x, y, kernel).item() == pytest.approx(2 * np.exp(-(7.4**2) / 2), rel=1e-4)


def test_kernels_are_those_of_the_papers():
    d = torch.logspace(-3, 3, 30, dtype=torch.float64)
    for name, kernel in KERNELS.items():
        np.testing.assert_allclose(kernel(d), [TEXTBOOK[name](value) for value in d.tolist()], rtol=1e-13)
        assert kernel(torch.zeros(1)).item() == 5
    np.testing.assert_allclose(rational_quadratic(d, alphas=(0.7,)), (1 + d / 1.4) ** -0.7, rtol=1e-13)


ZEROS = torch.zeros(4, 3)


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (torch.zeros(1, 3), ZEROS, "x has shape [1, 3], expected at least 2 points"),
        (ZEROS, torch.zeros(0, 3), "y has shape [0, 3], expected at least 2 points"),
        (ZEROS, torch.zeros(4, 2), "y has shape [4, 2], expected [M, 3]"),
        (torch.zeros(4), ZEROS, "x has shape [4], expected [N, F]"),
    ],
)
def test_what_are_no_two_samples(x, y, message):
    with pytest.raises(ValueError, match=re.escape(f"maximum_mean_discrepancy: {message}")):
        maximum_mean_discrepancy(x, y)
    named = message.replace("x has", "real_features has").replace("y has", "fake_features has")
    with pytest.raises(ValueError, match=re.escape(f"mmd: {named}")):
        mmd.critic(x, y)


def test_a_map_of_features_is_a_vector(generator):
    x, y = torch.randn(2, 5, 3, 2, 2, generator=generator)
    assert mmd.critic(x, y) == -maximum_mean_discrepancy(x.flatten(1), y.flatten(1))
    assert mmd.generator(y, x) == -mmd.critic(x, y)
    with pytest.raises(ValueError, match=re.escape("x has shape [5, 3, 2, 2], expected [N, F]")):
        maximum_mean_discrepancy(x, y)


def test_other_wrong_arguments():
    with pytest.raises(TypeError, match="mmd: fake_features is list, expected a floating-point tensor"):
        mmd.critic(ZEROS, [1.0])
    with pytest.raises(TypeError, match=r"y is torch\.int64, expected a floating-point tensor"):
        maximum_mean_discrepancy(ZEROS, ZEROS.long())
    with pytest.raises(ValueError, match="mmd: real_features is None, expected the critic's output on data"):
        mmd.generator(ZEROS, None)
    with pytest.raises(ValueError, match="mmd: kernel is 'linear', expected one of rational_quadratic, gaussian"):
        mmd_with("linear")
