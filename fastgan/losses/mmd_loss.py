"""The maximum mean discrepancy game: a kernel compares the critic's features of data and of samples.

    MMD^2_k(p, q) = E k(x, x') + E k(y, y') - 2 E k(x, y),        x, x' of p, y, y' of q, all independent

of features of the critic, which vanishes only for equal distributions of them. Its estimate is unbiased, and so is its
gradient, for any batch size (Bińkowski et al. 2018, arXiv:1801.01401, section 3); it may be below 0. A bounded kernel
does not bound the critic's slope: train it with a gradient penalty, which is of the witness function, clipped weights
or spectral normalisation.
"""

from functools import partial, update_wrapper

import torch
from torch import Tensor

from fastgan.losses.features import vectors, wide, without_autocast
from fastgan.losses.kernels import KERNELS, Kernel, rational_quadratic
from fastgan.losses.loss import Loss
from fastgan.ops._common.checks import check_floating, check_shape


def squared_distances(x: Tensor, y: Tensor) -> Tensor:
    """||x_i - y_j||^2 of points [N, F] and [M, F], as [N, M], by ||x||^2 + ||y||^2 - 2 x y.

    It needs one product of matrices and no [N, M, F]. The points are moved to their centre first, because norms that
    are much larger than the distances would cancel. What rounding makes negative is 0, with the derivatives of the
    polynomial: k' of coincident points matters to the second derivative.
    """
    centre = (x.mean(0) + y.mean(0)).detach() / 2  # a constant: moving both changes no distance
    x, y = x - centre, y - centre
    d = x.square().sum(1)[:, None] + y.square().sum(1) - 2 * (x @ y.mT)
    return d + (-d.detach()).clamp(min=0)


def maximum_mean_discrepancy(x: Tensor, y: Tensor, kernel: Kernel = rational_quadratic) -> Tensor:
    """1/(N(N-1)) sum_{i≠j} k(x_i, x_j) + 1/(M(M-1)) sum_{i≠j} k(y_i, y_j) - 2/(NM) sum_ij k(x_i, y_j).

    Args:
        x, y: two samples, floating point [N, F] and [M, F], N and M at least 2. Half precision is computed in
            float32, under torch.autocast too.
        kernel: a function of the squared distances, elementwise: one of `fastgan.losses.kernels`, also with other
            parameters, as `functools.partial(gaussian, widths=(0.5, 1.0))`.

    Returns:
        The unbiased estimate of MMD^2, a scalar in float32 (float64 for float64), as smooth as the kernel.

    Raises:
        TypeError: an argument is no floating-point tensor.
        ValueError: the shapes are not [N, F] and [M, F], or a sample has fewer than two points.

    Gretton et al. 2012, A kernel two-sample test, equation 3.
    """
    check_features("maximum_mean_discrepancy", x, y)
    with without_autocast(x):
        x, y = wide(x), wide(y)
        return _mean_of_pairs(x, kernel) + _mean_of_pairs(y, kernel) - 2 * kernel(squared_distances(x, y)).mean()


def witness_function(points: Tensor, x: Tensor, y: Tensor, kernel: Kernel = rational_quadratic) -> Tensor:
    """1/N sum_i k(p, x_i) - 1/M sum_j k(p, y_j) at each point p.

    The function that tells the two distributions apart, as a critic of one number does in other games: in the kernel's
    space the best one of any given norm is a multiple of it, and gradient penalties are of its slope. A point that is
    one of the x_i is not left out of their mean, as k(p, p) has no slope.

    Args:
        points: [P, F], floating point. Half precision is computed in float32, under torch.autocast too.
        x, y: two samples, [N, F] and [M, F], at least a point each.
        kernel: a function of the squared distances, as for `maximum_mean_discrepancy`.

    Returns:
        [P], in float32 (float64 for float64): above 0 where x is denser than y. As smooth as the kernel in all three.

    Raises:
        TypeError: an argument is no floating-point tensor.
        ValueError: the shapes are not those, or a sample is empty.

    Gretton et al. 2012, A kernel two-sample test, section 2.3; Bińkowski et al. 2018, arXiv:1801.01401, section 4.
    """
    owner = "witness_function"
    check_shape(owner, "points", points, ["P", "F"])
    for name, sample, size in (("x", x, "N"), ("y", y, "M")):
        check_shape(owner, name, sample, [size, points.shape[1]])
        if not len(sample):
            raise ValueError(f"{owner}: {name} has shape {list(sample.shape)}, expected at least one point")
    with without_autocast(points):
        points, x, y = wide(points), wide(x), wide(y)
        return kernel(squared_distances(points, x)).mean(1) - kernel(squared_distances(points, y)).mean(1)


def check_features(owner: str, x: Tensor, y: Tensor, names: tuple[str, str] = ("x", "y")) -> None:
    """Raises unless both are samples of two points or more, with equally many features."""
    check_shape(owner, names[0], x, ["N", "F"])
    check_shape(owner, names[1], y, ["M", x.shape[1]])
    for name, points in zip(names, (x, y), strict=True):
        if len(points) < 2:
            raise ValueError(f"{owner}: {name} has shape {list(points.shape)}, expected at least 2 points")


def _mean_of_pairs(x: Tensor, kernel: Kernel) -> Tensor:
    n = len(x)
    itself = torch.eye(n, dtype=torch.bool, device=x.device)
    # Not subtracted from the sum: beside n times k(x, x), the values of far points would be lost.
    return kernel(squared_distances(x, x)).masked_fill(itself, 0).sum() / (n * (n - 1))


def critic(kernel: Kernel, real_features: Tensor, fake_features: Tensor) -> Tensor:
    """-MMD^2_k(D(x), D(G(z))).

    Args:
        kernel: of the squared distances of features.
        real_features: the critic's output on data, floating point [B, F] or [B, ...], B at least 2.
        fake_features: its output on samples, as many numbers each, B' at least 2.

    Returns:
        A scalar in float32 (float64 for float64); on average 0 for features of one distribution.

    Raises:
        ValueError: the shapes are not those, or there are fewer than two samples.

    Li et al. 2017, arXiv:1705.08584, section 3; Bińkowski et al. 2018, arXiv:1801.01401, section 2.
    """
    return -_discrepancy(real_features, fake_features, kernel)


def generator(kernel: Kernel, fake_features: Tensor, real_features: Tensor | None) -> Tensor:
    """MMD^2_k(D(x), D(G(z))).

    Args:
        kernel: of the squared distances of features.
        fake_features: the critic's output on samples, floating point [B, F] or [B, ...], B at least 2.
        real_features: its output on data, as many numbers each, B' at least 2.

    Returns:
        A scalar in float32 (float64 for float64); on average 0 at equilibrium.

    Raises:
        ValueError: the real features are missing, the shapes are not those, or there are fewer than two samples.

    Li et al. 2017, arXiv:1705.08584, section 3; Bińkowski et al. 2018, arXiv:1801.01401, section 2.
    """
    if real_features is None:
        raise ValueError("mmd: real_features is None, expected the critic's output on data")
    return _discrepancy(real_features, fake_features, kernel)


def _discrepancy(real_features: Tensor, fake_features: Tensor, kernel: Kernel) -> Tensor:
    check_floating("mmd", "real_features", real_features)
    check_floating("mmd", "fake_features", fake_features)
    real, fake = vectors(real_features), vectors(fake_features)
    check_features("mmd", real, fake, ("real_features", "fake_features"))
    return maximum_mean_discrepancy(real, fake, kernel)


def _witness(kernel: Kernel, features: Tensor, real_features: Tensor, fake_features: Tensor) -> Tensor:
    return witness_function(vectors(features), vectors(real_features), vectors(fake_features), kernel)


def mmd_with(kernel: str) -> Loss:
    """The maximum mean discrepancy game with a kernel.

    Args:
        kernel: `rational_quadratic` or `gaussian`. For other widths, make a `Loss` of `maximum_mean_discrepancy`.

    Raises:
        ValueError: there is no such kernel.
    """
    if kernel not in KERNELS:
        raise ValueError(f"mmd: kernel is {kernel!r}, expected one of {', '.join(KERNELS)}")
    papers = {
        "rational_quadratic": "Bińkowski et al. 2018, arXiv:1801.01401",
        "gaussian": "Li et al. 2017, arXiv:1705.08584",
    }
    return Loss(
        "mmd" if KERNELS[kernel] is rational_quadratic else f"mmd:{kernel}",
        update_wrapper(partial(critic, KERNELS[kernel]), critic),
        update_wrapper(partial(generator, KERNELS[kernel]), generator),
        papers[kernel],
        needs_real=True,
        output="features",
        least=2,
        witness=partial(_witness, KERNELS[kernel]),
    )


mmd = mmd_with("rational_quadratic")
