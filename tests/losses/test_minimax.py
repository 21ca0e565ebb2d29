"""The minimax losses: one value for both players."""

import math

import pytest
import torch

from fastgan.losses import minimax, nonsaturating


def test_the_generator_lowers_what_the_critic_raises(generator):
    real, fake = torch.randn(2, 8, 1, dtype=torch.float64, generator=generator).requires_grad_()
    of_critic = torch.autograd.grad(minimax.critic(real, fake), fake)[0]
    of_generator = torch.autograd.grad(minimax.generator(fake), fake)[0]
    torch.testing.assert_close(of_generator, -of_critic)


def test_undecided_critic():
    zero = torch.zeros(5, 1, dtype=torch.float64)
    assert minimax.critic(zero, zero).item() == pytest.approx(2 * math.log(2), rel=1e-15)
    assert minimax.generator(zero).item() == pytest.approx(-math.log(2), rel=1e-15)


def test_the_gradient_vanishes_where_the_critic_is_sure():
    fake = torch.tensor([[-20.0]], dtype=torch.float64, requires_grad=True)
    (saturated,) = torch.autograd.grad(minimax.generator(fake), fake)
    (other,) = torch.autograd.grad(nonsaturating.generator(fake), fake)
    assert saturated.item() == pytest.approx(-math.exp(-20), rel=1e-6)
    assert other.item() == pytest.approx(-1, rel=1e-6)


def test_the_best_critic_of_known_densities():
    """At s(D) = p / (p + q) the value is 2 JS(p, q) - log 4, by quadrature."""
    from scipy import integrate, stats

    p, q = stats.norm(0.0, 1.0), stats.norm(1.0, 0.7)

    def value(x):
        logit = torch.tensor([[p.logpdf(x) - q.logpdf(x)]], dtype=torch.float64, requires_grad=True)
        best = torch.sigmoid(logit).item()
        assert best == pytest.approx(p.pdf(x) / (p.pdf(x) + q.pdf(x)), rel=1e-9)
        certain = torch.tensor([[1e4]], dtype=torch.float64)  # an output on which that player's half is 0
        on_data, on_samples = minimax.critic(logit, -certain).item(), minimax.critic(certain, logit).item()
        assert on_samples == pytest.approx(-minimax.generator(logit).item(), rel=1e-12)
        return -p.pdf(x) * on_data - q.pdf(x) * on_samples

    def js(x):
        a, b = p.pdf(x), q.pdf(x)
        return (a * math.log(2 * a / (a + b)) + b * math.log(2 * b / (a + b))) / 2

    found = integrate.quad(value, -7, 7, limit=200)[0]
    expected = 2 * integrate.quad(js, -7, 7, limit=200)[0] - math.log(4)
    assert found == pytest.approx(expected, abs=1e-7)
