"""Entropy regularisation of a linear generator, whose density, posterior and entropy are Gaussian and known."""

import re

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn

from fastgan.terms import GaussianHead, entropy_surrogate, latent_posterior

LATENT, DIMS = 2, 3
GROUPS, DEVIATIONS = 50, 7  # Student's t with 49 degrees of freedom is beyond 7 once in 1.5e8 draws


@pytest.fixture
def model(generator):
    """μ(z) = A z + b with the head; singular values of A from 0.5 to 1.5 and σ from 0.4 to 0.8."""
    network, head = nn.Linear(LATENT, DIMS).double(), GaussianHead((DIMS,), 0.5, 0.1, 1.0).double()
    left, right = (torch.linalg.qr(torch.randn(n, n, dtype=torch.float64))[0] for n in (DIMS, LATENT))
    with torch.no_grad():
        sizes = torch.diag(torch.rand(LATENT, dtype=torch.float64) + 0.5)
        network.weight.copy_(left[:, :LATENT] @ sizes @ right)
        head.log_variance.copy_(2 * torch.log(torch.rand(DIMS, dtype=torch.float64) * 0.4 + 0.4))
    return network, head


def posterior(model, x):
    """Means [B, LATENT] and the covariance of p(z | x)."""
    network, head = model
    A, precision = network.weight.detach(), torch.diag(head.sigma.detach() ** -2)
    covariance = torch.linalg.inv(torch.eye(LATENT, dtype=torch.float64) + A.T @ precision @ A)
    return (x - network.bias.detach()) @ precision @ A @ covariance, covariance


def entropy(model):
    """½ log det(2πe (A Aᵀ + diag σ²))."""
    network, head = model
    covariance = network.weight @ network.weight.T + torch.diag(head.sigma**2)
    return 0.5 * torch.logdet(2 * torch.pi * torch.e * covariance)


def exactly(model, x, z):
    """Two independent draws from the posterior of each x."""
    mean, covariance = posterior(model, x.detach())
    noise = torch.randn(2, *mean.shape, dtype=torch.float64)
    return mean + noise @ torch.linalg.cholesky(covariance).T


def by_chains(model, x, z):
    """Trajectories of length 0.6: at the posterior's frequencies, 1.1 to 3.9, each keeps less than 0.8 of z.

    Thirty of them leave 1e-3 of it, and so of the bias that remembering z has.
    """
    return latent_posterior(*model, x, z, 0.12, burn_in=30, adaption_rate=0.0).samples


@pytest.mark.parametrize("draw", [exactly, by_chains])
def test_the_gradient_is_the_entropys_on_average(model, draw, generator):
    """Groups of samples give independent estimates, whose spread says how far their mean may be off."""
    network, head = model
    parameters = [network.weight, head.log_variance]
    expected = torch.autograd.grad(entropy(model), parameters)
    found, values = [], []
    for _ in range(GROUPS):
        z = torch.randn(400, LATENT, dtype=torch.float64)
        x = head(network(z))
        value = entropy_surrogate(network, head, x, draw(model, x, z))
        found.append(torch.autograd.grad(value, parameters))
        values.append(value.detach())
    for gradients, e in zip(zip(*found, strict=True), expected, strict=True):
        gradients = torch.stack(gradients)
        error = gradients.std(0) / GROUPS**0.5
        assert ((gradients.mean(0) - e).abs() <= DEVIATIONS * error).all()
        assert (error < 0.1).all()  # so that a wrong sign or factor is seen
        assert (e.abs() / error).max() > 2 * DEVIATIONS
    # Stein: the value's mean is the number of dimensions.
    values = torch.stack(values)
    assert abs(values.mean() - DIMS) <= DEVIATIONS * values.std() / GROUPS**0.5


def test_a_chain_that_stays_where_it_was_gives_the_network_no_gradient(model, generator):
    """As the docstring warns: the noise of x is not correlated with its z."""
    network, head = model
    z = torch.randn(20_000, LATENT, dtype=torch.float64)
    x = head(network(z))
    value = entropy_surrogate(network, head, x, z[None])
    of_weight, of_variance = torch.autograd.grad(value, [network.weight, head.log_variance])
    sigma = head.sigma.detach()
    assert (of_weight.abs() <= 6 / sigma[:, None] / 20_000**0.5).all()  # of products of two standard normals
    assert ((of_variance - 0.5).abs() <= 6 * 0.5 * (2 / 20_000) ** 0.5).all()  # of ε² / 2


def test_with_posterior_means_the_value_is_that_of_the_score(model, generator):
    """For a linear generator the mean of μ(z') is μ of the mean, and the score that of a Gaussian."""
    network, head = model
    z = torch.randn(5, LATENT, dtype=torch.float64)
    x = head(network(z))
    value = entropy_surrogate(network, head, x, posterior(model, x.detach())[0][None])
    d = (x - network.bias).detach()
    covariance = (network.weight @ network.weight.T + torch.diag(head.sigma**2)).detach()
    score = torch.linalg.solve(covariance, d.T).T
    torch.testing.assert_close(value.detach(), (score * x.detach()).sum(1).mean(), rtol=1e-9, atol=1e-10)
    found = torch.autograd.grad(value, [network.weight, network.bias], retain_graph=True)
    expected = torch.autograd.grad((score * x).sum() / 5, [network.weight, network.bias])
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-10)


def test_chains_sample_the_posterior(model, generator):
    """For one x, from many z that did not make it: after a burn-in the known mean and covariance."""
    network, head = model
    x = torch.randn(DIMS, dtype=torch.float64)
    n = 8_000
    z = torch.randn(n, LATENT, dtype=torch.float64) * 3
    chain = latent_posterior(network, head, x.expand(n, DIMS), z, 0.12, samples=1, burn_in=40, adaption_rate=0.0)
    mean, covariance = posterior(model, x[None])
    centred = chain.samples[0] - mean
    assert (centred.mean(0).abs() <= 6 * (covariance.diagonal() / n).sqrt()).all()
    products = centred[:, :, None] * centred[:, None, :]
    diagonal = covariance.diagonal()
    spread = (diagonal[:, None] * diagonal + covariance**2).sqrt()
    assert ((products.mean(0) - covariance).abs() <= 6 * spread / n**0.5).all()
    assert all(p.grad is None for p in (*network.parameters(), head.log_variance))


def test_more_entropy_is_what_following_it_gives(generator):
    """A generator that collapsed onto a line gets wider across it, where the entropy's gradient is largest."""
    network, head = nn.Linear(2, 2, bias=False).double(), GaussianHead((2,), 0.2).double()
    with torch.no_grad():
        network.weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 0.05]]))
    head.requires_grad_(False)
    before = entropy((network, head)).item()
    optimizer = torch.optim.SGD(network.parameters(), 0.02)
    step = torch.tensor(0.15, dtype=torch.float64)
    for _ in range(60):
        z = torch.randn(200, 2, dtype=torch.float64)
        x = head(network(z))
        chain = latent_posterior(network, head, x, z, step)
        optimizer.zero_grad()
        (-entropy_surrogate(network, head, x, chain.samples)).backward()
        optimizer.step()
    assert entropy((network, head)).item() > before + 0.5


def test_log_prob_is_scipys(generator):
    head = GaussianHead((1, 2, 2), 0.2).double()
    with torch.no_grad():
        head.log_variance.normal_()
    x, mean = torch.randn(2, 4, 3, 2, 2, dtype=torch.float64)
    sigma = np.broadcast_to(head.sigma.detach().numpy(), (4, 3, 2, 2))
    expected = stats.norm(mean.numpy(), sigma).logpdf(x.numpy()).sum((1, 2, 3))
    np.testing.assert_allclose(head.log_prob(x, mean).detach().numpy(), expected, rtol=1e-10)


def test_the_head_adds_noise_of_sigma(generator):
    head = GaussianHead((2, 1), 0.3, 0.01, 2.0)
    with torch.no_grad():
        head.log_variance[1] = 2 * np.log(1.5)
    mean = torch.randn(2, 50_000) * 10
    noise = head(mean[None])[0] - mean
    n = noise.shape[1]
    for row, sigma in zip(noise, (0.3, 1.5), strict=True):
        assert row.std().item() == pytest.approx(sigma, rel=6 / (2 * n) ** 0.5)
        assert abs(row.mean().item()) <= 6 * sigma / n**0.5
    torch.testing.assert_close(head.sigma.flatten(), torch.tensor([0.3, 1.5]))


def test_derivatives_of_the_head(generator):
    head = GaussianHead((2,), 0.3).double()
    mean = torch.randn(3, 2, dtype=torch.float64, requires_grad=True)

    def sample(mean, log_variance):
        torch.manual_seed(0)
        return torch.func.functional_call(head, {"log_variance": log_variance}, (mean,))

    assert torch.autograd.gradcheck(sample, (mean, head.log_variance))
    assert torch.autograd.gradgradcheck(sample, (mean, head.log_variance))


def test_sigma_is_truncated():
    head = GaussianHead((4,), 0.1, low=0.05, high=0.2).double()
    with torch.no_grad():
        head.log_variance.copy_(2 * torch.tensor([0.001, 0.05, 0.1, 7.0]).log())
    head.truncate_()
    torch.testing.assert_close(
        head.sigma.detach(), torch.tensor([0.05, 0.05, 0.1, 0.2], dtype=torch.float64), rtol=1e-6, atol=0
    )


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(dtype, generator):
    head = GaussianHead((2, 3))
    mean = torch.randn(4, 2, 3).to(dtype)
    x = head(mean)
    assert x.dtype == dtype
    assert head.log_prob(x, mean).dtype == torch.float32
    network = nn.Unflatten(1, (2, 3))
    value = entropy_surrogate(network, head, x, torch.randn(2, 4, 6).to(dtype))
    assert value.dtype == torch.float32


def test_bad_arguments(model):
    network, head = model
    for arguments, message in (
        (((3, 0),), "shape is 0, expected an integer of at least 1"),
        (((3,), 0.0), "sigma is 0.0, expected a finite number > 0"),
        (((3,), 0.1, -1.0), "low is -1.0, expected a finite number > 0"),
        (((3,), 0.5), "sigma is 0.5, expected a number from low = 0.01 to high = 0.3"),
    ):
        with pytest.raises(ValueError, match=re.escape(f"GaussianHead: {message}")):
            GaussianHead(*arguments)
    for shape in ((2, 4), (3,), (2, 1, 3)):
        with pytest.raises(ValueError, match=re.escape(f"mean has shape {list(shape)}, expected [batch, *[3]]")):
            head(torch.zeros(shape))
    with pytest.raises(TypeError, match=re.escape("mean is torch.int64, expected a floating-point tensor")):
        head(torch.zeros(2, 3, dtype=torch.long))
    x = torch.zeros(4, DIMS, dtype=torch.float64)
    for shape in ((2, 3, LATENT), (4, LATENT), (0, 4, LATENT)):
        with pytest.raises(ValueError, match=re.escape(f"samples has shape {list(shape)}, expected [samples, 4, ...]")):
            entropy_surrogate(network, head, x, torch.zeros(shape, dtype=torch.float64))
