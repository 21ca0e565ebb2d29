"""The non-saturating losses against the textbook formula."""

import math

import pytest
import torch

from fastgan.losses import nonsaturating


@pytest.fixture
def logits(generator):
    return torch.randn(2, 64, 1, dtype=torch.float64, generator=generator) * 3


def test_critic_is_the_textbook_formula(logits):
    real, fake = logits
    expected = -torch.log(torch.sigmoid(real)).mean() - torch.log(1 - torch.sigmoid(fake)).mean()
    torch.testing.assert_close(nonsaturating.critic(real, fake), expected, rtol=1e-12, atol=0)


def test_generator_is_the_textbook_formula(logits):
    fake = logits[1]
    expected = -torch.log(torch.sigmoid(fake)).mean()
    torch.testing.assert_close(nonsaturating.generator(fake), expected, rtol=1e-12, atol=0)


def test_undecided_critic():
    zero = torch.zeros(5, 1, dtype=torch.float64)
    assert nonsaturating.critic(zero, zero).item() == pytest.approx(2 * math.log(2), rel=1e-15)
    assert nonsaturating.generator(zero).item() == pytest.approx(math.log(2), rel=1e-15)


@pytest.mark.parametrize("size", [1e2, 1e4, 1e30])
def test_extreme_logits_stay_finite_with_the_right_slope(size):
    """log s(D) would be -inf here and its gradient nan; the loss is |D| with slope one."""
    real = torch.tensor([-size], requires_grad=True)
    fake = torch.tensor([size], requires_grad=True)
    loss = nonsaturating.critic(real, fake)
    loss.backward()
    assert loss.item() == pytest.approx(2 * size, rel=1e-6)
    assert real.grad.item() == -1
    assert fake.grad.item() == 1

    rejected = torch.tensor([-size], requires_grad=True)
    nonsaturating.generator(rejected).backward()
    assert rejected.grad.item() == -1


def test_the_generator_learns_where_minimax_would_not():
    """At D = -20 the slope of log(1 - s(D)) is 2e-9; the non-saturating slope is almost -1."""
    fake = torch.tensor([-20.0], dtype=torch.float64, requires_grad=True)
    nonsaturating.generator(fake).backward()
    assert fake.grad.item() == pytest.approx(-1 / (1 + math.exp(-20)), rel=1e-14)
