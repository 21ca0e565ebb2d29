"""Learned moments against Jacobians, sample by sample."""

import copy

import numpy as np
import pytest
import torch
from torch import nn
from torch.func import functional_call, jacrev

from fastgan.losses import learned_moments, nonsaturating


@pytest.fixture
def critic(generator):
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2), nn.Softplus(), nn.Linear(2, 1)).double()


def by_samples(critic, x, layers=()):
    """The mean of each sample's own moments."""
    parameters = dict(critic.named_parameters())
    rows = []
    for sample in x.detach():
        slopes = jacrev(lambda p, s=sample: functional_call(critic, p, (s[None],)).squeeze())(parameters)
        hidden = [critic[: int(name) + 1](sample[None])[0] for name in layers]
        rows.append(torch.cat([*(slopes[name].flatten() for name in parameters), sample, *hidden]).detach().numpy())
    return np.mean(rows, axis=0)


@pytest.mark.parametrize("layers", [(), ("1",), ("3", "0")])
@pytest.mark.parametrize("batch", [1, 5])
def test_moments_are_the_means_of_the_samples(critic, layers, batch, generator):
    x = torch.randn(batch, 3, dtype=torch.float64, generator=generator)
    np.testing.assert_allclose(
        learned_moments.moments(critic, x, layers), by_samples(critic, x, layers), rtol=1e-12, atol=1e-15
    )


@pytest.mark.parametrize("layers", [(), ("1",)])
def test_the_generator_s_loss(critic, layers, generator):
    real, fake = (torch.randn(n, 3, dtype=torch.float64, generator=generator) for n in (6, 4))
    fake.requires_grad_()
    value = learned_moments.generator(critic, real, fake, layers)
    expected = ((by_samples(critic, real, layers) - by_samples(critic, fake, layers)) ** 2).sum() / 2
    assert value.item() == pytest.approx(expected, rel=1e-12)
    assert torch.autograd.gradcheck(lambda y: learned_moments.generator(critic, real, y, layers), (fake,))
    assert torch.autograd.gradgradcheck(lambda y: learned_moments.generator(critic, real, y, layers), (fake,))
    value.backward()
    assert all(p.grad is None for p in critic.parameters())
    assert learned_moments.generator(critic, real, real.clone(), layers).item() == pytest.approx(0, abs=1e-25)


def test_a_frozen_critic_has_the_same_moments(critic, generator):
    real, fake = torch.randn(2, 4, 3, dtype=torch.float64, generator=generator)
    free = learned_moments.generator(critic, real, fake.requires_grad_())
    critic.requires_grad_(False)
    frozen = learned_moments.generator(critic, real, fake)
    torch.testing.assert_close(frozen, free, rtol=0, atol=0)
    frozen.backward()
    assert fake.grad.abs().sum() > 0
    with torch.no_grad():
        assert learned_moments.generator(critic, real, fake) == free


def test_the_critic_s_loss(critic, generator):
    real, fake = (torch.randn(n, 3, dtype=torch.float64, generator=generator) for n in (6, 4))
    fake.requires_grad_()
    count = sum(p.numel() for p in critic.parameters())
    plain = nonsaturating.critic(critic(real), critic(fake)).item()
    norms = [(by_samples(critic, x)[:count] ** 2).sum() for x in (real, fake)]
    value = learned_moments.critic(critic, real, fake, weight=3.0)
    assert value.item() == pytest.approx(plain + 1.5 * sum((norm - 1) ** 2 for norm in norms), rel=1e-12)
    value.backward()
    assert fake.grad is None
    for name, parameter in critic.named_parameters():
        for index in (0, parameter.numel() - 1):
            values = []
            for step in (1e-5, -1e-5):
                moved = copy.deepcopy(critic)
                with torch.no_grad():
                    moved.get_parameter(name).flatten()[index] += step
                values.append(learned_moments.critic(moved, real, fake, weight=3.0).item())
            # A central difference: h^2 of the third derivative, and eps |value| / h.
            difference = (values[0] - values[1]) / 2e-5
            assert parameter.grad.flatten()[index].item() == pytest.approx(
                difference, rel=1e-5, abs=1e-7 * value.item()
            )
    assert learned_moments.critic(critic, real, fake, weight=0).item() == pytest.approx(plain, rel=1e-14)


def test_they_bring_a_generator_to_the_data(generator):
    """A Gaussian's mean moves to that of the data, with a critic at random."""
    network = nn.Sequential(nn.Linear(2, 16), nn.Tanh(), nn.Linear(16, 1))
    mean = torch.tensor([2.0, -1.0])
    moved = torch.zeros(2, requires_grad=True)
    optimizer = torch.optim.Adam([moved], lr=0.05)
    for _ in range(200):
        real = mean + 0.3 * torch.randn(64, 2, generator=generator)
        fake = moved + 0.3 * torch.randn(64, 2, generator=generator)
        optimizer.zero_grad()
        learned_moments.generator(network, real, fake, layers=("1",)).backward()
        optimizer.step()
    assert (moved - mean).norm() < 0.3


def test_bad_arguments(critic):
    x = torch.zeros(2, 3, dtype=torch.float64)
    with pytest.raises(ValueError, match="layers names '9', expected a submodule of the critic"):
        learned_moments.moments(critic, x, ("9",))
    with pytest.raises(ValueError, match=r"x has shape \[0, 3\], expected at least one sample"):
        learned_moments.moments(critic, x[:0])
    with pytest.raises(ValueError, match="weight is -1, expected a number of at least 0"):
        learned_moments.critic(critic, x, x, -1)
    with pytest.raises(ValueError, match="critic has no parameter that requires a gradient, expected one to train"):
        learned_moments.critic(critic.requires_grad_(False), x, x)
    shared = nn.Tanh()
    with pytest.raises(ValueError, match="layer '1' was called 2 times, expected once"):
        learned_moments.moments(nn.Sequential(nn.Linear(3, 3), shared, shared, nn.Linear(3, 1)).double(), x, ("1",))
    assert not critic[1]._forward_hooks
