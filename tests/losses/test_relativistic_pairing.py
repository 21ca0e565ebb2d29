"""The relativistic pairing losses: differences of pairs, and nothing else."""

import math

import pytest
import torch

from fastgan.losses import relativistic_pairing


def test_undecided_critic():
    zero = torch.zeros(5, 1, dtype=torch.float64)
    assert relativistic_pairing.critic(zero, zero).item() == pytest.approx(math.log(2), rel=1e-15)
    assert relativistic_pairing.generator(zero, zero).item() == pytest.approx(math.log(2), rel=1e-15)


def test_the_players_change_places(generator):
    """The generator's loss is the critic's with data and samples exchanged."""
    real, fake = torch.randn(2, 8, 1, dtype=torch.float64, generator=generator)
    assert relativistic_pairing.generator(fake, real) == relativistic_pairing.critic(fake, real)


def test_only_differences_count(generator):
    real, fake = torch.randn(2, 8, 1, dtype=torch.float64, generator=generator)
    for function in (relativistic_pairing.critic, relativistic_pairing.generator):
        torch.testing.assert_close(function(real + 50, fake + 50), function(real, fake), rtol=1e-12, atol=0)


def test_sample_i_is_compared_with_image_i_alone(generator):
    real = torch.randn(6, 1, dtype=torch.float64, generator=generator, requires_grad=True)
    fake = torch.randn(6, 1, dtype=torch.float64, generator=generator, requires_grad=True)
    up, down = torch.autograd.grad(relativistic_pairing.critic(real, fake), (real, fake))
    doubt = torch.sigmoid(fake - real) / 6  # -d softplus(-d) / dd is the probability given to the wrong order
    torch.testing.assert_close(up, -doubt, rtol=1e-12, atol=0)
    torch.testing.assert_close(down, doubt, rtol=1e-12, atol=0)


@pytest.mark.parametrize("shapes", [((4, 1), (5, 1)), ((4, 1), (1, 1)), ((4, 1), (4,))])
def test_shapes_that_do_not_pair_are_refused(shapes):
    """[4, 1] and [4] would broadcast to all 16 pairs."""
    real, fake = (torch.zeros(shape) for shape in shapes)
    message = rf"real_logits has shape \[4, 1\] and fake_logits \[{', '.join(map(str, shapes[1]))}\]"
    with pytest.raises(ValueError, match=message):
        relativistic_pairing.critic(real, fake)
    with pytest.raises(ValueError, match=message):
        relativistic_pairing.generator(fake, real)


def test_the_generator_needs_the_real_logits():
    with pytest.raises(ValueError, match="real_logits is None, expected the critic's output on data"):
        relativistic_pairing.generator(torch.zeros(4, 1), None)
