"""The variance of the kernel distance over draws of both sets, for its standard error."""

import torch
from torch import Tensor

from fastgan.metrics.checks import check_set

CHUNK = 64
"""Rows of a kernel matrix that are made at a time: a thousand columns of them stay in the cache."""


def cubic_kernel(x: Tensor, y: Tensor) -> Tensor:
    """(x·y / F + 1)^3 of points [N, F] and [M, F]: [N, M]."""
    affine = torch.addmm(x.new_ones(()), x, y.mT, alpha=1 / x.shape[1])
    return affine.square().mul_(affine)


def kernel_distance_variance(real: Tensor, fake: Tensor) -> float:
    """Estimates the variance of the unbiased squared MMD with the cubic kernel over draws of both sets.

    The estimate from x of n and y of m points is a U-statistic, so its variance is

        4 Var(a(x)) / n + 4 Var(b(y)) / m + 2 V_xx / n(n-1) + 2 V_yy / m(m-1) + 4 V_xy / nm

    where a(x) is the difference between the mean kernels of x to the two distributions, b(y) likewise, and V are the
    variances of the kernel without the means of its rows and columns. Each is estimated without bias. a and b are
    constant where the distributions agree; estimates below 0 of their variances are set to 0, so that there the
    result is somewhat too large on average.

    Args:
        real, fake: floating point [N, F] and [M, F], N and M at least 4.

    Raises:
        TypeError, ValueError: the features have another type or shape, are too few or not finite.

    Hoeffding 1948 for the sum; Sutherland et al. 2017, arXiv:1611.04488, for the distance.
    """
    check_set("kernel_distance_variance", "real", real, ("F",), 4)
    check_set("kernel_distance_variance", "fake", fake, real.shape[1:], 4)
    x, y = real.detach().double(), fake.detach().double()
    n, m = len(x), len(y)
    x_among_x, pairs_xx = _within(x)
    y_among_y, pairs_yy = _within(y)
    x_among_y, y_among_x, pairs_xy = _between(x, y)
    # What the means of finitely many pairs vary by is in the variance over the points, and taken out.
    of_x = (x_among_x - x_among_y).var() - pairs_xx / (n - 2) - pairs_xy / m
    of_y = (y_among_y - y_among_x).var() - pairs_yy / (m - 2) - pairs_xy / n
    of_points = of_x.clamp(min=0) / n + of_y.clamp(min=0) / m
    of_pairs = pairs_xx / (n * (n - 1)) / 2 + pairs_yy / (m * (m - 1)) / 2 + pairs_xy / (n * m)
    return 4 * (of_points + of_pairs).item()


def _within(x: Tensor) -> tuple[Tensor, Tensor]:
    """The kernel among different points of one set as mean + g_i + g_j + rest: g [N], and the variance of the rest."""
    n = len(x)
    sums, _, squares = _sums(x, x)
    own = (x.square().mean(dim=1) + 1) ** 3
    sums, squares = sums - own, squares - own.square().sum()
    mean = sums.sum() / (n * (n - 1))
    g = (sums - (n - 1) * mean) / (n - 2)
    rest = squares - n * (n - 1) * mean**2 - 2 * (n - 2) * g.square().sum()
    return g, rest / (n * (n - 3))


def _between(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The kernel between two sets as mean + a_i + b_j + rest: a [N], b [M], and the variance of the rest."""
    n, m = len(x), len(y)
    of_x, of_y, squares = _sums(x, y)
    mean = of_x.sum() / (n * m)
    a, b = of_x / m - mean, of_y / n - mean
    rest = squares - n * m * mean**2 - m * a.square().sum() - n * b.square().sum()
    return a, b, rest / ((n - 1) * (m - 1))


def _sums(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The sums of the kernel's rows [N] and columns [M], and of all squares."""
    rows, columns, squares = [], y.new_zeros(len(y)), y.new_zeros(())
    for chunk in x.split(CHUNK):
        kernel = cubic_kernel(chunk, y)
        rows.append(kernel.sum(dim=1))
        columns += kernel.sum(dim=0)
        squares += kernel.square().sum()
    return torch.cat(rows), columns, squares
