"""The witness function of the maximum mean discrepancy: double loops, a closed form, derivatives."""

import re
from functools import partial

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from fastgan.losses import LOSSES, witness_function
from fastgan.losses.kernels import KERNELS, gaussian
from tests.losses.test_mmd import TEXTBOOK

EVERY = pytest.mark.parametrize("kernel", KERNELS)


def in_loops(points, x, y, kernel):
    """By its definition, pair by pair, in float64."""
    points, x, y = (np.asarray(sample.detach().double()) for sample in (points, x, y))
    found = np.zeros(len(points))
    for i, p in enumerate(points):
        for sample, sign in ((x, 1), (y, -1)):
            for other in sample:
                found[i] += sign * kernel(((p - other) ** 2).sum()) / len(sample)
    return found


def samples(generator, sizes=(6, 7, 5), features=3, dtype=torch.float64):
    points, x, y = (torch.randn(size, features, dtype=dtype, generator=generator) for size in sizes)
    return points, x, 1.5 * y + 0.7


@EVERY
@pytest.mark.parametrize(("sizes", "features"), [((6, 7, 5), 3), ((1, 1, 1), 1), ((4, 1, 9), 2), ((3, 2, 2), 0)])
def test_it_is_the_double_loop(kernel, sizes, features, generator):
    arguments = samples(generator, sizes, features)
    expected = in_loops(*arguments, TEXTBOOK[kernel])
    np.testing.assert_allclose(witness_function(*arguments, KERNELS[kernel]), expected, rtol=1e-12, atol=1e-13)


@EVERY
def test_its_derivatives_by_all_three(kernel, generator):
    arguments = [sample.requires_grad_() for sample in samples(generator, (3, 4, 2), 2)]
    function = partial(witness_function, kernel=KERNELS[kernel])
    assert torch.autograd.gradcheck(function, arguments)
    assert torch.autograd.gradgradcheck(function, arguments)


def test_its_gradient_between_two_normal_distributions(generator):
    """E k(p, X) = w^2 / (w^2 + s^2) exp(-||p - m||^2 / (2 (w^2 + s^2))) for one width w and X ~ N(m, s^2 I) in 2-D."""
    width, batches, count = 1.3, 400, 50
    means, deviations = (np.array([0.0, 0.5]), np.array([2.0, -1.0])), (1.0, 0.6)
    points = np.array([[0.3, 0.1], [1.0, -0.4], [2.5, -1.0], [-4.0, 3.0]])
    expected = np.zeros_like(points)
    for mean, s, sign in zip(means, deviations, (1, -1), strict=True):
        wide = width**2 + s**2
        value = width**2 / wide * np.exp(-((points - mean) ** 2).sum(1) / (2 * wide))
        expected += sign * value[:, None] * (mean - points) / wide
    draws = []
    for _ in range(batches):
        x, y = (
            torch.from_numpy(mean) + s * torch.randn(count, 2, dtype=torch.float64, generator=generator)
            for mean, s in zip(means, deviations, strict=True)
        )
        p = torch.from_numpy(points).requires_grad_()
        value = witness_function(p, x, y, partial(gaussian, widths=(width,)))
        draws.append(torch.autograd.grad(value.sum(), p)[0])
    found = torch.stack(draws)
    error = found.std(0).numpy() / batches**0.5
    assert (np.abs(found.mean(0).numpy() - expected) < 5.5 * error).all()
    assert (np.abs(expected[:2]).max(1) > 100 * error[:2].max(1)).all()  # so the comparison means something


@EVERY
def test_a_point_of_the_sample_has_no_slope_from_itself(kernel, generator):
    """At x_0 the slope is that of the others, (N - 1)/N of theirs, and so is how it depends on x_0."""
    _, x, y = samples(generator)
    k, n, direction = KERNELS[kernel], len(x), torch.randn(1, 3, dtype=torch.float64, generator=generator)
    point = x[:1].clone().requires_grad_()
    moving = point.view_as(point)  # the sample's x_0 is held while this moves, and moves with it to second order
    of_others = (n - 1) / n * k((moving - x[1:]).square().sum(1)).mean() - k((moving - y).square().sum(1)).mean()
    both = witness_function(moving, torch.cat([point, x[1:]]), y, k).sum(), of_others
    (found, second), (expected, second_expected) = (
        (slope, torch.autograd.grad((slope * direction).sum(), point)[0])
        for slope in (torch.autograd.grad(value, moving, create_graph=True)[0] for value in both)
    )
    torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-13)
    torch.testing.assert_close(second, second_expected, rtol=1e-11, atol=1e-13)


class _Largest(TorchDispatchMode):
    """Keeps the most numbers that any operation's result had."""

    def __init__(self):
        super().__init__()
        self.numel = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, torch.Tensor):
                self.numel = max(self.numel, tensor.untyped_storage().nbytes() // tensor.element_size())
        return result


def test_no_pass_has_differences_of_all_pairs(generator):
    arguments = [sample.requires_grad_() for sample in samples(generator, (40, 50, 30), 60)]
    with _Largest() as largest:
        (slopes,) = torch.autograd.grad(witness_function(*arguments).sum(), arguments[0], create_graph=True)
        torch.autograd.grad(slopes.square().sum(), arguments)
    assert largest.numel == 50 * 60  # the largest sample, beside 40 x 50 pairs


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_float32(dtype, generator):
    arguments = [sample.to(dtype) for sample in samples(generator, (30, 20, 10), 8)]
    wide = [sample.float() for sample in arguments]
    found, expected = witness_function(*arguments), witness_function(*wide)
    assert found.dtype == torch.float32
    assert torch.equal(found, expected)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(witness_function(*wide), expected)


@EVERY
def test_that_of_the_objective_takes_maps_of_features(kernel, generator):
    objective = LOSSES["mmd" if kernel == "rational_quadratic" else f"mmd:{kernel}"]
    maps = [torch.randn(size, 3, 2, 2, generator=generator) for size in (4, 5, 6)]
    flat = [sample.flatten(1) for sample in maps]
    assert torch.equal(objective.witness(*maps), witness_function(*flat, KERNELS[kernel]))
    of_one_number = ("logit", "error")
    assert all((loss.witness is None) == (loss.output in of_one_number) for loss in LOSSES.values())


POINTS = torch.zeros(4, 3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((torch.zeros(4), POINTS, POINTS), "points has shape [4], expected [P, F]"),
        ((POINTS, torch.zeros(4, 2), POINTS), "x has shape [4, 2], expected [N, 3]"),
        ((POINTS, POINTS, torch.zeros(0, 3)), "y has shape [0, 3], expected at least one point"),
    ],
)
def test_what_are_no_points_and_samples(arguments, message):
    with pytest.raises(ValueError, match=re.escape(f"witness_function: {message}")):
        witness_function(*arguments)
    with pytest.raises(TypeError, match=r"witness_function: points is torch\.int64, expected a floating-point tensor"):
        witness_function(POINTS.long(), POINTS, POINTS)
