"""The games over f-divergences beside the games they are known by."""

import math

import pytest
import torch

from fastgan.losses import DIVERGENCES, fgan, minimax, parse
from fastgan.losses.divergences import alpha


@pytest.fixture
def logits(generator):
    return torch.randn(2, 40, 1, dtype=torch.float64, generator=generator) * 3


def test_the_gan_divergence_is_the_minimax_game(logits):
    real, fake = logits
    game = fgan("gan", saturating=True)
    torch.testing.assert_close(game.critic(real, fake), minimax.critic(real, fake), rtol=1e-12, atol=0)
    torch.testing.assert_close(game.generator(fake, None), minimax.generator(fake), rtol=1e-12, atol=0)


def test_the_jensen_shannon_divergence_is_it_but_for_a_constant(logits):
    real, fake = logits
    found = fgan("jensen_shannon").critic(real, fake)
    torch.testing.assert_close(found, minimax.critic(real, fake) - 2 * math.log(2), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", DIVERGENCES)
def test_both_forms_of_the_generator_pull_the_same_way(name):
    fake = torch.linspace(-1.9, 3, 7, dtype=torch.float64).requires_grad_()  # below -2 Pearson's saturates
    pulls = [torch.autograd.grad(fgan(name, saturating).generator(fake, None), fake)[0] for saturating in (False, True)]
    assert all((pull < 0).all() for pull in pulls)


def test_equal_players_gain_nothing():
    """Where the logit is that of the ratio 1, the bound is the divergence of equals: 0."""
    for name, make in DIVERGENCES.items():
        divergence = make()
        t = divergence.derivative(torch.ones(1, dtype=torch.float64))
        bound = (t - divergence.conjugate(t)).item()
        assert bound == pytest.approx(-math.log(4) if name == "gan" else 0, abs=1e-12)


def test_parameters_and_names(logits):
    real, fake = logits
    assert parse("fgan:alpha:0.5").critic(real, fake) == fgan(alpha(0.5)).critic(real, fake)
    assert parse("fgan:alpha:0.5").critic(real, fake) != parse("fgan:alpha").critic(real, fake)
    with pytest.raises(ValueError, match="fgan: divergence is 'jensen', expected one of total_variation, kl"):
        fgan("jensen")
    for text in ("fgan:kl:2", "fgan:", "fgan:nothing", "hinge:2"):
        with pytest.raises(ValueError, match=f"'{text}', expected .*nonsaturating, minimax"):
            parse(text)
    with pytest.raises(ValueError, match="expected a number after the divergence"):
        parse("fgan:alpha:")
