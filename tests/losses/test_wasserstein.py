"""The Wasserstein losses, where the best critic is known."""

import pytest
import torch
from scipy.stats import wasserstein_distance
from torch import nn

import fastgan
from fastgan.losses import wasserstein
from fastgan.penalties import WGANGP


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


def test_a_linear_critic_with_a_gradient_penalty_has_the_slope_of_the_optimum(generator):
    """E_q D - E_p D + weight (|w| - 1)^2 for D(x) = w x, means 3 apart: best at |w| = 1 + 3 / (2 weight)."""
    critic = nn.Linear(1, 1, bias=False, dtype=torch.float64)
    nn.init.constant_(critic.weight, -0.5)  # above 0 there is a local optimum, of the other sign
    data = torch.randn(50, 1, dtype=torch.float64, generator=generator)
    optimizer = torch.optim.SGD(critic.parameters(), lr=0.05)
    for _ in range(200):
        optimizer.zero_grad()
        fastgan.critic_loss(critic, data, data + 3, loss="wasserstein", penalties=(WGANGP(5.0),)).backward()
        optimizer.step()
    assert critic.weight.item() == pytest.approx(-(1 + 3 / 10), rel=1e-6)


@pytest.mark.usefixtures("one_thread")
def test_a_trained_critic_finds_the_distance_of_two_densities(seed):
    """Against the exact W1 of 1-D samples, which is that of their sorted values.

    With weight 10 a one-sided penalty leaves the critic a slope of about 1 + W1 / 20, some 5 % over.
    """
    torch.manual_seed(seed)
    data = torch.cat([torch.randn(256, 1) * 0.3 - 1, torch.randn(256, 1) * 0.3 + 2])
    samples = torch.randn(512, 1) * 0.8 + 1
    exact = wasserstein_distance(data.flatten().numpy(), samples.flatten().numpy())
    critic = nn.Sequential(nn.Linear(1, 64), nn.LeakyReLU(0.2), nn.Linear(64, 64), nn.LeakyReLU(0.2), nn.Linear(64, 1))
    optimizer = torch.optim.Adam(critic.parameters(), lr=3e-3, betas=(0.5, 0.99))
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.02, 800)
    for _ in range(800):
        optimizer.zero_grad()
        fastgan.critic_loss(
            critic, data, samples, loss="wasserstein", penalties=(WGANGP(10.0, one_sided=True),)
        ).backward()
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        found = -wasserstein.critic(critic(data), critic(samples)).item()
    assert 1 < found / exact < 1.1
