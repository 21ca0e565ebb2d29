"""The maximum-likelihood losses: importance weights that do not overflow."""

import numpy as np
import pytest
import torch

from fastgan.losses import maximum_likelihood, parse, plain_maximum_likelihood


def test_its_gradient_is_that_of_the_mean_exponential_over_it(generator):
    fake = torch.randn(50, 1, dtype=torch.float64, generator=generator).requires_grad_()
    (found,) = torch.autograd.grad(maximum_likelihood.generator(fake), fake)
    mean = fake.exp().mean()
    (plain,) = torch.autograd.grad(-mean, fake)
    torch.testing.assert_close(found, plain / mean.detach(), rtol=1e-12, atol=0)


def test_weights_add_up_to_one_however_large_the_logits():
    fake = torch.tensor([[1e4], [1e4 - 1], [-1e4]], requires_grad=True)
    (pull,) = torch.autograd.grad(maximum_likelihood.generator(fake), fake)
    expected = torch.tensor([[1.0], [torch.tensor(-1.0).exp()], [0.0]])
    torch.testing.assert_close(pull, -expected / expected.sum())


def test_the_gradient_is_that_of_the_likelihood(generator):
    """For samples of a normal distribution with mean m and the best critic: d/dm KL(p, q) = m - E_p x."""
    n, mean_of_data, m = 400_000, 0.4, torch.zeros([], dtype=torch.float64, requires_grad=True)
    samples = torch.randn(n, 1, dtype=torch.float64, generator=generator) + m
    fixed = m.detach()
    logits = -((samples - mean_of_data) ** 2) / 2 + (samples - fixed) ** 2 / 2
    (found,) = torch.autograd.grad(maximum_likelihood.generator(logits), m)
    assert found.item() == pytest.approx(-mean_of_data * 1.0, abs=0.02)


@pytest.mark.parametrize("logit", [-3.0, 0.0, 1.5])
def test_the_slopes_of_one_sample(logit):
    """-1 where the batch's mean exponential divides it; else twice the tutorial's -1/2 exp(D) (figure 16)."""
    slopes = []
    for loss in (maximum_likelihood, plain_maximum_likelihood):
        fake = torch.tensor([[logit]], dtype=torch.float64, requires_grad=True)
        slopes += torch.autograd.grad(loss.generator(fake, None), fake)
    assert slopes[0].item() == pytest.approx(-1, rel=1e-12)
    assert slopes[1].item() == pytest.approx(2 * (-np.exp(logit) / 2), rel=1e-12)


def test_the_plain_form_by_its_name():
    assert parse("maximum_likelihood:plain") is plain_maximum_likelihood
    assert parse("label_smoothing:0.9:maximum_likelihood:plain").name == "label_smoothing:0.9:maximum_likelihood:plain"
    with pytest.raises(ValueError, match=r"'maximum_likelihood:fancy', expected .*nonsaturating"):
        parse("maximum_likelihood:fancy")
