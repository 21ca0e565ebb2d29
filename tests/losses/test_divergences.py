"""The f-divergences: convexity, conjugates by Fenchel and Young, and the bound against quadrature."""

import itertools
import math

import numpy as np
import pytest
import torch
from scipy import integrate, stats

from fastgan.losses import parse
from fastgan.losses.divergences import DIVERGENCES, LIMIT, alpha, exp, weighted_jensen_shannon
from tests.losses.f_divergences import TABLE

ALL = {
    **{name: make() for name, make in DIVERGENCES.items()},
    "alpha=-1": alpha(-1.0),
    "alpha=0.5": alpha(0.5),
    "alpha=3": alpha(3.0),
    "pi=0.2": weighted_jensen_shannon(0.2),
    "pi=0.9": weighted_jensen_shannon(0.9),
}
EVERY = pytest.mark.parametrize("divergence", ALL.values(), ids=ALL)


def ratios():
    return torch.logspace(-3, 3, 61, dtype=torch.float64)


def inside(divergence, n=60):
    """Points of the domain, from everywhere in it."""
    low, high = divergence.domain
    if divergence.name == "pearson":
        low = -2.0  # what f' of a ratio reaches; below, f* is constant
    if math.isinf(low) and math.isinf(high):
        return torch.linspace(-8, 5, n, dtype=torch.float64)
    steps = torch.logspace(-4, math.log10(20), n, dtype=torch.float64)
    if math.isinf(low):
        return high - steps
    return low + steps if math.isinf(high) else torch.linspace(low, high, n, dtype=torch.float64)


def test_all_eleven_are_there():
    assert DIVERGENCES.keys() == TABLE.keys()
    assert len(DIVERGENCES) == 11
    assert [make().name for make in DIVERGENCES.values()] == list(DIVERGENCES)


@EVERY
def test_f_is_convex_and_zero_at_one(divergence):
    one = divergence.f(torch.ones(1, dtype=torch.float64)).item()
    assert one == pytest.approx(-math.log(4) if divergence.name == "gan" else 0, abs=1e-15)
    u, w = ratios(), ratios().flip(0) * 1.7
    assert (divergence.f((u + w) / 2) <= (divergence.f(u) + divergence.f(w)) / 2 + 1e-12).all()


@pytest.mark.parametrize("name", TABLE)
def test_f_and_the_activation_are_the_textbooks(name):
    u, v = ratios(), torch.linspace(-6, 6, 25, dtype=torch.float64) + 0.1
    found = DIVERGENCES[name]()
    np.testing.assert_allclose(found.f(u), [TABLE[name].f(x) for x in u.tolist()], rtol=1e-9, atol=1e-12)
    expected = [TABLE[name].activation(x) for x in v.tolist()]
    np.testing.assert_allclose(found.activation(v), expected, rtol=1e-6, atol=1e-7)


@EVERY
def test_the_derivative_is_that_of_f(divergence):
    u = ratios().requires_grad_()
    u = torch.where(u == 1, 1.5, u) if divergence.name == "total_variation" else u
    (slope,) = torch.autograd.grad(divergence.f(u).sum(), u)
    torch.testing.assert_close(divergence.derivative(u), slope, rtol=1e-9, atol=1e-12)


@EVERY
def test_fenchel_and_young(divergence):
    """f(u) + f*(t) >= u t everywhere, with equality at t = f'(u)."""
    u, t = ratios(), inside(divergence)
    gap = divergence.f(u)[:, None] + divergence.conjugate(t) - u[:, None] * t
    assert (gap >= -1e-9 * (1 + u[:, None] * t.abs())).all()
    best = divergence.derivative(u)
    equal = divergence.f(u) + divergence.conjugate(best) - u * best
    torch.testing.assert_close(equal, torch.zeros_like(u), rtol=0, atol=1e-9 * (1 + u * best.abs()).max().item())


@EVERY
def test_the_derivatives_of_the_conjugate(divergence):
    """f*' is the inverse of f'; both derivatives against finite differences."""
    t = inside(divergence, 12)[1:-1].clone().requires_grad_()
    (u,) = torch.autograd.grad(divergence.conjugate(t).sum(), t)
    if divergence.name != "total_variation":  # whose f' is no function's inverse
        torch.testing.assert_close(divergence.derivative(u), t.detach(), rtol=1e-7, atol=1e-9)
    middle = t[(t - t.detach().median()).abs().argsort()[:4]].detach().requires_grad_()
    assert torch.autograd.gradcheck(divergence.conjugate, (middle,))
    assert torch.autograd.gradgradcheck(divergence.conjugate, (middle,))


@EVERY
def test_the_activation_is_increasing_and_keeps_to_the_domain(divergence):
    v = torch.linspace(-20, 20, 401, dtype=torch.float64)
    t = divergence.activation(v)
    low, high = divergence.domain
    assert (t.diff() >= 0).all()
    assert (t.diff()[150:250] > 0).all()
    assert ((t >= low) & (t <= high)).all()


@EVERY
def test_the_conjugate_of_a_logit_is_the_composition(divergence):
    v = torch.linspace(-8, 8, 101, dtype=torch.float64)
    composed = divergence.conjugate(divergence.activation(v))
    torch.testing.assert_close(divergence.conjugate_of_logit(v), composed, rtol=1e-6, atol=1e-9)


@EVERY
def test_the_bound_at_the_best_critic_is_the_divergence_by_quadrature(divergence):
    """Of two normal densities whose ratios have all the moments that are needed."""
    p, q = stats.norm(0.3, 1.0), stats.norm(0.0, 1.1)

    def tensor_of(function, x):
        return function(torch.tensor(x, dtype=torch.float64)).item()

    def ratio(x):
        return np.exp(p.logpdf(x) - q.logpdf(x))

    def integral(integrand):
        ends = [-12, -3, -0.5, 0.5, 1.5, 4, 12]  # the ratio is one at two points, where one integrand has kinks
        pieces = itertools.pairwise(ends)
        return sum(integrate.quad(integrand, *piece, epsabs=1e-12, limit=400)[0] for piece in pieces)

    exact = integral(lambda x: q.pdf(x) * tensor_of(divergence.f, ratio(x)))

    def bound(x):
        t = divergence.derivative(torch.tensor(ratio(x), dtype=torch.float64))
        return p.pdf(x) * t.item() - q.pdf(x) * divergence.conjugate(t).item()

    assert integral(bound) == pytest.approx(exact, rel=1e-6, abs=1e-9)

    def worse(x):  # any other function gives less
        t = divergence.derivative(torch.tensor(ratio(x) ** 0.5, dtype=torch.float64))
        return p.pdf(x) * t.item() - q.pdf(x) * divergence.conjugate(t).item()

    assert integral(worse) <= exact + 1e-9


@EVERY
def test_large_logits_are_still_a_bound(divergence):
    """f(u) >= u T - f*(T) of what is used for T and f*, or the critic's loss would be unbounded below."""
    u = torch.exp(torch.linspace(-9.99, 9.99, 81, dtype=torch.float64))[:, None]  # exp(10): where alpha=3 goes over
    size = torch.cat([torch.linspace(0, 70, 141, dtype=torch.float64), torch.logspace(2, 4, 21, dtype=torch.float64)])
    v = torch.cat([-size, size])
    terms = (divergence.f(u), -u * divergence.activation(v), divergence.conjugate_of_logit(v))
    inside = (1 + u) * (1 + u.log().abs())  # of which f is a difference
    assert (sum(terms) >= -1e-14 * sum(term.abs() for term in (*terms, inside))).all()


def test_a_critic_gains_nothing_by_large_logits():
    """p is all at one point, q half of it there: D_f = f(2)/2 + f(0)/2 = 1/2 for half of Pearson's divergence."""
    for size in (10.0, 60.0, 1e4):
        real = torch.full((2,), size, dtype=torch.float64)
        fake = torch.tensor([size, -10.0], dtype=torch.float64)
        assert parse("fgan:alpha").critic(real, fake) >= -0.5


def test_the_exponential_goes_on_as_its_tangent():
    v = torch.tensor([-1e4, -2.0, LIMIT - 1, LIMIT, LIMIT + 1, 1e4], dtype=torch.float64, requires_grad=True)
    y = exp(v)
    (slope,) = torch.autograd.grad(y.sum(), v)
    top = math.exp(LIMIT)
    expected = torch.tensor([0, math.exp(-2), math.exp(LIMIT - 1), top, 2 * top, (1e4 - LIMIT + 1) * top]).double()
    torch.testing.assert_close(y.detach(), expected, rtol=1e-6, atol=0)
    torch.testing.assert_close(
        slope, torch.tensor([0, math.exp(-2), math.exp(LIMIT - 1), top, top, top]).double(), rtol=1e-6, atol=0
    )


@pytest.mark.parametrize("value", [0.0, 1.0, float("nan"), float("inf")])
def test_alpha_is_neither_0_nor_1(value):
    with pytest.raises(ValueError, match=f"alpha: alpha is {value}, expected a number other than 0 and 1"):
        alpha(value)


@pytest.mark.parametrize("value", [0.0, 1.0, -0.5, float("nan")])
def test_pi_is_a_share(value):
    with pytest.raises(ValueError, match=f"pi is {value}, expected a number between 0 and 1"):
        weighted_jensen_shannon(value)


def test_pearsons_conjugate_is_constant_where_no_ratio_is():
    t = torch.tensor([-9.0, -2.0, -1.0], dtype=torch.float64, requires_grad=True)
    value = DIVERGENCES["pearson"]().conjugate(t)
    assert value.tolist() == [-1, -1, -0.75]
    assert torch.autograd.grad(value.sum(), t)[0].tolist() == [0, 0, 0.5]


def test_alpha_has_the_others_as_limits():
    u = ratios()
    for near, limit in ((1 + 1e-6, DIVERGENCES["kl"]()), (1e-6, DIVERGENCES["reverse_kl"]())):
        plain = limit.f(u) - (u - 1) * limit.derivative(torch.ones(1, dtype=torch.float64))  # the same divergence
        torch.testing.assert_close(alpha(near).f(u), plain, rtol=1e-4, atol=1e-8)
    torch.testing.assert_close(alpha(2.0).f(u), DIVERGENCES["pearson"]().f(u) / 2)
