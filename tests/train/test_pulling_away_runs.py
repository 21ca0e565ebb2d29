"""Runs of EBGAN with its pulling-away term: the generator's gradient sample by sample, resumed bit for bit, refused."""

import pytest
import torch

from fastgan import recipes
from fastgan.errors import UserError
from tests.train.steps import begun, gradients, networks, recipe_of, resumed

pytestmark = pytest.mark.usefixtures("one_thread")
WEIGHT, MARGIN = 0.3, 0.7
SETTINGS = {"loss": f"ebgan:{MARGIN}", "penalty": "", "batch_size": 8}


def both(**changes):
    """(with the term, without it): float64, equal otherwise."""
    made = [
        begun(recipe_of("digits-resnet", **{**SETTINGS, **changes}, pulling_away=weight), torch.float64)
        for weight in (WEIGHT, 0.0)
    ]
    assert all(torch.equal(a, b) for a, b in zip(*(r.task.critics.parameters() for r in made), strict=True))
    return made


def pulling_away(features):
    """The mean squared cosine over ordered pairs of different rows."""
    pairs = [(a, b) for i, a in enumerate(features) for j, b in enumerate(features) if i != j]
    return sum((a @ b / (a.norm() * b.norm())) ** 2 for a, b in pairs) / len(pairs)


def test_the_generator_pays_for_samples_that_the_encoder_finds_alike():
    ours, plain = both()
    found, value = gradients(ours, "generator", ours.engine.batch())
    generator, critic = networks(plain)
    samples = generator(plain.engine.batch().tensors["latent"])
    features = critic.autoencoder[0](samples)
    expected = critic(samples).mean() + WEIGHT * pulling_away(features)
    torch.testing.assert_close(value, expected.detach(), rtol=1e-10, atol=0)
    expected = torch.autograd.grad(expected, list(generator.parameters()))
    torch.testing.assert_close(found, list(expected), rtol=1e-7, atol=1e-12)


@pytest.mark.parametrize("penalty", ["", "r1:2,r2:1"])
def test_the_critic_plays_the_same_game(penalty):
    """Its penalties are of the error."""
    runs = both(penalty=penalty)
    found = [gradients(run, "critic", run.engine.batch()) for run in runs]
    torch.testing.assert_close(found[0], found[1], rtol=1e-8, atol=1e-12)
    torch.testing.assert_close(runs[0].engine.log, runs[1].engine.log)


@pytest.mark.parametrize("chosen", [{}, {"unroll": 1, "penalty": ""}, {"game": "consensus"}], ids=str)
def test_a_resumed_run_goes_on_bit_for_bit(chosen, tmp_path):
    run = resumed(tmp_path, "digits-resnet", **{**SETTINGS, "penalty": "r1:1", **chosen}, pulling_away=0.1)
    assert recipes.load(run).task.sample(3).isfinite().all()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"loss": "hinge"}, "task.pulling_away is 0.1, expected 0: it is a part of ebgan, and the loss is hinge"),
        ({"loss": "began"}, "task.pulling_away is 0.1, expected 0: it is a part of ebgan, and the loss is began"),
        ({"batch_size": 1}, "run.batch_size is 1, expected at least 2: ebgan compares samples with each o"),
        ({"pulling_away": -1.0}, "task.pulling_away is -1.0, expected greater than or equal to 0"),
        ({"pack": 2}, "task.pack is 2, expected 1: ebgan"),
        ({"conditional": "projection"}, "task.loss is 'ebgan', expected another: projection is of the logits"),
    ],
)
def test_what_cannot_be(changes, message):
    with pytest.raises(UserError, match=message):
        begun(recipe_of("digits-dcgan", **{"loss": "ebgan", "pulling_away": 0.1, **changes}))
