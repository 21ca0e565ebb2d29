"""Feature matching against numpy, the mean of its estimate, and the game that it is the generator's half of."""

import re

import numpy as np
import pytest
import torch

from fastgan.losses import (
    LOSSES,
    feature_matching,
    feature_matching_with,
    hinge,
    label_smoothing,
    nonsaturating,
    parse,
    relativistic_pairing,
)


@pytest.mark.parametrize("shape", [(3,), (2, 3, 2), (0,), (1,)])
@pytest.mark.parametrize(("n", "m"), [(7, 5), (1, 1), (4, 4)])
def test_it_is_the_distance_of_the_means(shape, n, m, generator):
    x, y = (torch.randn(size, *shape, dtype=torch.float64, generator=generator) for size in (n, m))
    gap = sum(x.numpy()) / n - sum(y.numpy()) / m
    assert feature_matching(x, y).item() == pytest.approx((gap * gap).sum(), rel=1e-12)


def test_its_gradient(generator):
    """-2/M (E x - E y) for every sample; and gradcheck, to the second order."""
    x, y = (torch.randn(size, 3, dtype=torch.float64, generator=generator, requires_grad=True) for size in (4, 6))
    (found,) = torch.autograd.grad(feature_matching(x, y), y)
    gap = x.detach().numpy().mean(0) - y.detach().numpy().mean(0)
    np.testing.assert_allclose(found, np.tile(-2 / 6 * gap, (6, 1)), rtol=1e-12)
    assert torch.autograd.gradcheck(feature_matching, (x, y))
    assert torch.autograd.gradgradcheck(feature_matching, (x, y))


def test_what_batches_of_normal_distributions_give_on_average(generator):
    """||m||^2 + F (s^2/B + t^2/B') for N(0, s^2 I) and N(m, t^2 I)."""
    draws, b, other, features, s, t = 4000, 6, 4, 3, 0.7, 1.4
    shift = torch.tensor([0.5, -1.0, 0.25], dtype=torch.float64)
    x = s * torch.randn(draws, b, features, dtype=torch.float64, generator=generator)
    y = t * torch.randn(draws, other, features, dtype=torch.float64, generator=generator) + shift
    values = torch.stack([feature_matching(*pair) for pair in zip(x, y, strict=True)])
    expected = shift.square().sum().item() + features * (s**2 / b + t**2 / other)
    error = values.std().item() / draws**0.5
    assert values.mean().item() == pytest.approx(expected, abs=5.5 * error)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_averaged_in_float32(dtype, generator):
    x, y = (50_000 * torch.rand(size, 3, generator=generator).to(dtype) for size in (300, 200))
    found = feature_matching(x, y)
    assert found.dtype == torch.float32
    assert found == feature_matching(x.float(), y.float())
    assert found.isfinite()


@pytest.mark.parametrize("game", [nonsaturating, hinge, relativistic_pairing, label_smoothing(nonsaturating, 0.9)])
def test_the_critic_plays_by_its_logit_and_the_generator_matches_the_rest(game, generator):
    real, fake = torch.randn(2, 6, 5, dtype=torch.float64, generator=generator)
    loss = feature_matching_with(game)
    assert loss.critic(real, fake) == game.critic(real[:, :1], fake[:, :1])
    assert loss.generator(fake, real) == feature_matching(real[:, 1:], fake[:, 1:])
    assert torch.equal(loss.witness(fake, real, real), fake[:, 0])
    assert (loss.output, loss.needs_real, loss.classifier) == ("logit and features", True, False)
    assert parse(loss.name).name == loss.name == f"feature_matching:{game.name}"
    assert parse(loss.name).critic(real, fake) == loss.critic(real, fake)


def test_by_name():
    assert parse("feature_matching").name == "feature_matching:nonsaturating"
    with pytest.raises(ValueError, match=r"'none', expected .*nonsaturating"):
        parse("feature_matching:none")


@pytest.mark.parametrize(
    "loss", [loss for loss in LOSSES.values() if loss.output != "logit"], ids=lambda loss: loss.name
)
def test_games_of_something_else_are_refused(loss):
    message = f"feature_matching_with: loss is {loss.name}, a game of {loss.output}, expected one of logits"
    with pytest.raises(ValueError, match=re.escape(message)):
        feature_matching_with(loss)


TWO = torch.zeros(4, 2)


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (torch.zeros(4), TWO, "real_features has shape [4], expected [B, F]"),
        (TWO, torch.zeros(4, 3), "fake_features has shape [4, 3], expected [B', 2]"),
        (torch.zeros(0, 2), TWO, "real_features has shape [0, 2], expected at least one sample"),
        (TWO, torch.zeros(0, 2), "fake_features has shape [0, 2], expected at least one sample"),
    ],
)
def test_what_are_no_features(x, y, message):
    with pytest.raises(ValueError, match=re.escape(f"feature_matching: {message}")):
        feature_matching(x, y)


def test_other_wrong_arguments():
    loss = feature_matching_with(hinge)
    with pytest.raises(TypeError, match="feature_matching_with: loss is str, expected a Loss"):
        feature_matching_with("hinge")
    with pytest.raises(TypeError, match=r"feature_matching: fake_features is torch\.int64, expected a floating-point"):
        feature_matching(TWO, TWO.long())
    with pytest.raises(ValueError, match=re.escape("fake_outputs has shape [4, 1], expected [B, 1 + F], F >= 1")):
        loss.critic(TWO, TWO[:, :1])
    with pytest.raises(ValueError, match=re.escape("real_outputs has shape [4], expected [B, 1 + F], F >= 1")):
        loss.generator(TWO, TWO[:, 0])
    with pytest.raises(
        ValueError, match="feature_matching: real_outputs is None, expected the critic's output on data"
    ):
        loss.generator(TWO, None)
