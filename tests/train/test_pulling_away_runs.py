"""Runs of EBGAN with its pulling-away term: the generator's gradient sample by sample, resumed bit for bit, refused."""

import pytest
import torch

from fastgan.errors import UserError
from fastgan.penalties import parse
from fastgan.train import TrainConfig, load_generator
from fastgan.train.closures import critic_objective, generator_objective

WEIGHT, MARGIN = 0.3, 0.7
SETTINGS = {"preset": "digits-resnet", "loss": f"ebgan:{MARGIN}", "penalty": "none", "batch_size": 8}


@pytest.fixture
def states(tiny, double):
    """(with the term, without it): float64, equal otherwise."""
    made = [double(tiny(**SETTINGS, pulling_away=weight)) for weight in (WEIGHT, 0.0)]
    assert all(torch.equal(a, b) for a, b in zip(*(s.critic.parameters() for s in made), strict=True))
    return made


def pulling_away(features):
    """The mean squared cosine over ordered pairs of different rows."""
    pairs = [(a, b) for i, a in enumerate(features) for j, b in enumerate(features) if i != j]
    return sum((a @ b / (a.norm() * b.norm())) ** 2 for a, b in pairs) / len(pairs)


def test_the_generator_pays_for_samples_that_the_encoder_finds_alike(states):
    ours, plain = states
    images = ours.next_batch().images
    value = generator_objective(ours, ours.loss, images, ours.next_latents())
    samples = plain.generator(plain.next_latents())
    features = plain.critic.autoencoder[0](samples)
    expected = plain.critic(samples).mean() + WEIGHT * pulling_away(features)
    torch.testing.assert_close(value, expected, rtol=1e-10, atol=0)
    found = torch.autograd.grad(value, list(ours.generator.parameters()))
    expected = torch.autograd.grad(expected, list(plain.generator.parameters()))
    torch.testing.assert_close(found, expected, rtol=1e-7, atol=1e-12)


@pytest.mark.parametrize("penalties", ["", "r1:2,r2:1"])
def test_the_critic_plays_the_same_game(penalties, states):
    """Its penalties are of the error."""
    steps, gradients = [], []
    for state in states:
        images, latents = state.next_batch().images, state.next_latents()
        total, step = critic_objective(state, state.loss, images, latents, parse(penalties))
        gradients.append(torch.autograd.grad(total, list(state.critic.parameters())))
        steps.append(step)
    torch.testing.assert_close(steps[0].losses, steps[1].losses)
    torch.testing.assert_close(steps[0].penalties, steps[1].penalties)
    torch.testing.assert_close(*gradients, rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("chosen", [{}, {"unroll": 1, "penalty": "none"}, {"optimizer": "consensus"}], ids=str)
def test_a_resumed_run_goes_on_bit_for_bit(chosen, resumed):
    run = resumed(**{**SETTINGS, "penalty": "r1:1", **chosen}, pulling_away=0.1)
    assert load_generator(run).sample(3).isfinite().all()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"loss": "hinge"}, "--pulling-away is 0.1, expected 0: it is a part of ebgan, and --loss is hinge"),
        ({"loss": "began"}, "--pulling-away is 0.1, expected 0: it is a part of ebgan, and --loss is began"),
        ({"batch_size": 1}, "--batch-size is 1, expected at least 2: --pulling-away compares samples with each other"),
        ({"pulling_away": -1.0}, "--pulling-away is -1.0, expected a number of at least 0"),
        ({"pack": 2}, "--pack is 2, expected 1: ebgan"),
        ({"conditional": "projection"}, "--loss is 'ebgan', expected an objective of logits"),
    ],
)
def test_what_cannot_be(changes, message, tmp_path):
    settings = {"preset": "digits-dcgan", "loss": "ebgan", "pulling_away": 0.1, "out": tmp_path / "run"}
    with pytest.raises(UserError, match=message):
        TrainConfig.for_preset(**{**settings, **changes})
