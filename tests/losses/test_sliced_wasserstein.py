"""The sliced Wasserstein distance against optimal assignments, which know nothing of sorting."""

import re

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment

from fastgan.losses import nonsaturating, sliced_wasserstein, squared_sliced_wasserstein
from fastgan.losses.sliced_wasserstein_loss import random_directions


def by_assignment(x, y, directions):
    """The least mean squared distance of pairs, over all ways to pair, for each direction; their average."""
    x, y, directions = (np.asarray(points.detach().double()) for points in (x, y, directions))
    distances = []
    for direction in directions.T:
        costs = ((x @ direction)[:, None] - y @ direction) ** 2
        distances.append(costs[linear_sum_assignment(costs)].mean())
    return np.mean(distances)


def draw(generator, batch=6, features=3, dtype=torch.float64):
    return torch.randn(2, batch, features, dtype=dtype, generator=generator)


@pytest.mark.parametrize(("batch", "features"), [(6, 3), (1, 4), (9, 1), (2, 2)])
def test_it_is_the_optimal_assignment(batch, features, generator):
    x, y = draw(generator, batch, features)
    y = 2 * y + 0.5
    directions = random_directions(features, 11, x)
    found = squared_sliced_wasserstein(x, y, directions=directions)
    assert found.item() == pytest.approx(by_assignment(x, y, directions), rel=1e-12)


def test_its_derivatives(generator):
    x, y = (points.requires_grad_() for points in draw(generator, 4, 2))
    directions = random_directions(2, 3, x)

    def function(x, y):
        return squared_sliced_wasserstein(x, y, directions=directions)

    # Where two projections are nearer than the step of the differences, their order would change within it.
    spread = torch.cat([torch.diff((points.detach() @ directions).sort(0).values, dim=0) for points in (x, y)]).min()
    eps = min(1e-6, spread.item() / 10)
    assert torch.autograd.gradcheck(function, (x, y), eps=eps, atol=1e-4)
    assert torch.autograd.gradgradcheck(function, (x, y), eps=eps, atol=1e-4)


def test_the_gradient_moves_each_point_to_its_partner(generator):
    """On one axis: 2 (x_i - its partner) / B."""
    x, y = draw(generator, 5, 1)
    x.requires_grad_()
    axis = torch.ones(1, 1, dtype=torch.float64)
    (found,) = torch.autograd.grad(squared_sliced_wasserstein(x, y, directions=axis), x)
    points, others = x.detach().numpy(), y.numpy()
    _, partners = linear_sum_assignment((points - others.T) ** 2)
    np.testing.assert_allclose(found, 2 * (points - others[partners]) / 5, rtol=1e-12)


def test_a_shift_is_as_far_as_it_is_long(generator):
    """Data moved by v: the distance along w is (v·w)^2, on average over the sphere ||v||^2 / F."""
    x = draw(generator, 8, 4)[0]
    shift = torch.tensor([3.0, 0.0, -4.0, 0.0], dtype=torch.float64)
    found = squared_sliced_wasserstein(x, x + shift, projections=20_000)
    # (v·w)^2 / ||v||^2 has the standard deviation sqrt(3/24 - 1/16) = 1/4 in four dimensions: six standard errors.
    assert found.item() == pytest.approx(25 / 4, abs=6 * 25 * 0.25 / 20_000**0.5)


def test_directions_are_uniform_and_come_from_the_global_generator(generator):
    like = torch.zeros(1, dtype=torch.float64)
    directions = random_directions(3, 50_000, like)
    torch.testing.assert_close(directions.norm(dim=0), torch.ones(50_000, dtype=torch.float64))
    # Coordinates on a sphere of three dimensions are uniform on [-1, 1]: variance 1/3, six standard errors.
    second = directions @ directions.mT / 50_000
    assert (second - torch.eye(3) / 3).abs().max() < 6 * 0.3 / 50_000**0.5
    assert directions.mean(1).abs().max() < 6 * 0.578 / 50_000**0.5
    torch.manual_seed(5)
    once = squared_sliced_wasserstein(*draw(generator), projections=4)
    torch.manual_seed(5)
    assert not torch.equal(squared_sliced_wasserstein(*draw(generator), projections=4), once)  # other points
    x, y = draw(generator)
    torch.manual_seed(5)
    once, other = (squared_sliced_wasserstein(x, y, projections=4) for _ in range(2))
    assert once != other
    torch.manual_seed(5)
    assert squared_sliced_wasserstein(x, y, projections=4) == once
    assert random_directions(2, 3, torch.zeros(1, dtype=torch.bfloat16)).dtype == torch.float32


def test_the_critic_is_a_classifier_by_its_first_output(generator):
    real, fake = draw(generator, 6, 4)
    assert sliced_wasserstein.critic(real, fake) == nonsaturating.critic(real[:, :1], fake[:, :1])
    assert sliced_wasserstein.critic(real, fake[:2]) == nonsaturating.critic(real[:, :1], fake[:2, :1])
    torch.manual_seed(3)
    found = sliced_wasserstein.generator(fake, real)
    torch.manual_seed(3)
    directions = random_directions(4, 512, fake)
    assert found.item() == pytest.approx(by_assignment(fake, real, directions), rel=1e-12)
    assert sliced_wasserstein.critic(real.view(6, 2, 2), fake.view(6, 2, 2)) == sliced_wasserstein.critic(real, fake)
    assert sliced_wasserstein.generator(real.flip(0), real).item() == pytest.approx(0, abs=1e-28)


@pytest.mark.parametrize("size", [1.0, 1e4])
def test_float32_is_as_right_as_float64(size, generator):
    x, y = draw(generator, 16, 8) * size + size
    directions = random_directions(8, 20, x)
    exact = squared_sliced_wasserstein(x, y, directions=directions)
    single = squared_sliced_wasserstein(x.float(), y.float(), directions=directions)
    assert single.dtype == torch.float32
    # Rounding moves a projection by a few eps of the largest, a squared difference by twice that times the difference.
    assert single.item() == pytest.approx(exact.item(), rel=1e-4)


def test_projections_are_not_rounded_far_from_the_origin(generator):
    """Around 1e5 a float32 projection has steps of 0.008; of points moved to their centre, which is exact, 1e-7."""
    x, y = draw(generator, 16, 8, torch.float32) + 1e5
    directions = random_directions(8, 20, x)
    exact = squared_sliced_wasserstein(x.double(), y.double(), directions=directions)
    assert squared_sliced_wasserstein(x, y, directions=directions).item() == pytest.approx(exact.item(), rel=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_float32(dtype, generator):
    x, y = (points.to(dtype) for points in draw(generator, 8, 4))
    directions = random_directions(4, 10, x)
    expected = squared_sliced_wasserstein(x.float(), y.float(), directions=directions)
    found = squared_sliced_wasserstein(x, y, directions=directions)
    assert found.dtype == torch.float32
    assert found == expected
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert squared_sliced_wasserstein(x.float(), y.float(), directions=directions) == expected
    assert squared_sliced_wasserstein(1e4 * x, 1e4 * y, directions=directions).isfinite()


ZEROS = torch.zeros(4, 3)


@pytest.mark.parametrize(
    ("x", "y", "keywords", "message"),
    [
        (ZEROS, torch.zeros(5, 3), {}, "x has shape [4, 3] and y [5, 3], expected equally many points"),
        (torch.zeros(0, 3), torch.zeros(0, 3), {}, "x has shape [0, 3] and y [0, 3], expected equally many points"),
        (torch.zeros(4, 0), torch.zeros(4, 0), {}, "x has shape [4, 0] and y [4, 0], expected equally many points"),
        (ZEROS, torch.zeros(4, 2), {}, "y has shape [4, 2], expected [B, 3]"),
        (torch.zeros(4), ZEROS, {}, "x has shape [4], expected [B, F]"),
        (ZEROS, ZEROS, {"projections": 0}, "projections is 0, expected an integer of at least 1"),
        (ZEROS, ZEROS, {"directions": torch.zeros(2, 3)}, "directions has shape [2, 3], expected [3, P]"),
        (ZEROS, ZEROS, {"directions": torch.zeros(3, 0)}, "directions has shape [3, 0], expected at least one"),
    ],
)
def test_what_cannot_be_compared(x, y, keywords, message):
    with pytest.raises(ValueError, match=re.escape(f"squared_sliced_wasserstein: {message}")):
        squared_sliced_wasserstein(x, y, **keywords)


def test_what_are_no_outputs_of_the_critic():
    with pytest.raises(ValueError, match=re.escape("fake_outputs has shape [4], expected [B, 1 + F]")):
        sliced_wasserstein.critic(ZEROS, torch.zeros(4))
    with pytest.raises(ValueError, match=re.escape("real_outputs has shape [4, 0], expected [B, 1 + F], F >= 0")):
        sliced_wasserstein.critic(torch.zeros(4, 0), ZEROS)
    with pytest.raises(ValueError, match="sliced_wasserstein: real_outputs is None, expected the critic's output"):
        sliced_wasserstein.generator(ZEROS, None)
    with pytest.raises(TypeError, match=r"x is list, expected a floating-point tensor"):
        squared_sliced_wasserstein([1.0], ZEROS)
