"""The Wasserstein losses, where the best critic is known."""

import pytest
import torch

from fastgan.losses import wasserstein


def test_the_best_critic_on_a_line_gives_the_distance(generator):
    """Samples that are the data moved by 3 are 3 away, and D(x) = -x is a 1-Lipschitz critic that says so."""
    data = torch.randn(50, 1, dtype=torch.float64, generator=generator)
    assert wasserstein.critic(-data, -(data + 3)).item() == pytest.approx(-3, rel=1e-12)


def test_a_constant_added_to_the_critic_changes_nothing(generator):
    real, fake = torch.randn(2, 8, 1, dtype=torch.float64, generator=generator)
    moved = wasserstein.critic(real + 100, fake + 100)
    torch.testing.assert_close(moved, wasserstein.critic(real, fake), rtol=0, atol=1e-12)


def test_slopes_are_constant():
    real = torch.tensor([[-1e4], [1e4]], requires_grad=True)
    fake = torch.tensor([[-1e4], [0.0], [1.0], [1e4]], requires_grad=True)
    wasserstein.critic(real, fake).backward()
    assert real.grad.unique().tolist() == [-0.5]
    assert fake.grad.unique().tolist() == [0.25]
