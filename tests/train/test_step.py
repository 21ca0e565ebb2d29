"""One step's gradients, with every objective, against the textbook written out with autograd."""

import copy
from itertools import product

import pytest
import torch

from fastgan.losses import LOSSES, Loss
from fastgan.ops import interpolate
from fastgan.penalties import parse
from fastgan.train.closures import critic_objective, generator_objective
from fastgan.train.labels import Batch
from fastgan.train.step import train_step
from tests.rotation import in_turn

PENALTIES = ["none", "r1:1,r2:3", "wgan-gp:10"]
METHODS = {"digits-dcgan": "double backward, because ", "digits-resnet": "one pass"}


@pytest.fixture
def state(tiny, double):
    """Makes the state of a run in float64, without dropout and noise; every one is the same."""

    def make(preset="digits-resnet", **changes):
        made = double(tiny(preset=preset, **changes))
        made.critic.eval()
        return made

    return make


def critic_gradients(state, loss, images, penalties):
    total, step = critic_objective(state, loss, images, state.next_latents(), penalties)
    total.backward(inputs=list(state.critic.parameters()))
    return step


def gradients(network):
    return [parameter.grad for parameter in network.parameters()]


def textbook_penalty(critic, name, weight, real, fake):
    """gamma/2 E ||g||^2 on data or samples, or weight E (||g|| - 1)^2 in between."""
    if name == "wgan-gp":
        points = interpolate(real, fake, torch.randint(2**62, (1,)))
    else:
        points = {"r1": real, "r2": fake}[name].clone()
    points = points.detach().requires_grad_()
    (g,) = torch.autograd.grad(critic(points).sum(), points, create_graph=True)
    norms = g.flatten(1).square().sum(1).sqrt()
    return weight * (norms - 1).square().mean() if name == "wgan-gp" else weight / 2 * norms.square().mean()


@pytest.mark.parametrize(
    ("loss", "preset", "penalty"), in_turn(list(product(LOSSES, METHODS, PENALTIES)), "critic gradients", run=48)
)
def test_critic_gradients_are_the_textbook_s(state, loss, preset, penalty):
    loss = LOSSES[loss]
    ours, textbook = state(preset), state(preset)
    images = ours.next_batch().images
    torch.manual_seed(3)  # of the interpolation weights
    step = critic_gradients(ours, loss, images, parse(penalty))

    torch.manual_seed(3)
    critic = textbook.critic
    with torch.no_grad():
        samples = textbook.generator(textbook.next_latents())
    plain = loss.critic(critic(images), critic(samples))
    parts = dict(part.split(":") for part in penalty.split(",") if part != "none")

    def watched(x):
        """Of features the witness function, of anything else the sum of the outputs."""
        return critic(x) if loss.witness is None else loss.witness(critic(x), critic(images), critic(samples))

    values = {name: textbook_penalty(watched, name, float(weight), images, samples) for name, weight in parts.items()}
    expected = torch.autograd.grad(plain + sum(values.values()), list(critic.parameters()))

    torch.testing.assert_close(gradients(ours.critic), list(expected), rtol=1e-8, atol=1e-10)
    torch.testing.assert_close(step.losses, {"critic": plain.detach()}, rtol=1e-9, atol=0)
    torch.testing.assert_close(step.penalties, {n: v.detach() for n, v in values.items()}, rtol=1e-9, atol=0)
    assert step.gradient_norms.keys() == parts.keys()
    if parts:
        assert step.method.startswith("double backward, because " if loss.witness else METHODS[preset])
    else:
        assert step.method is None


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
def test_generator_gradients_are_the_textbook_s(state, loss):
    ours, textbook = state(), state()
    images = ours.next_batch().images
    value = generator_objective(ours, loss, images, ours.next_latents())
    value.backward(inputs=list(ours.generator.parameters()))

    logits = textbook.critic(textbook.generator(textbook.next_latents()))
    expected = loss.generator(logits, textbook.critic(images).detach())
    torch.testing.assert_close(value.detach(), expected.detach(), rtol=1e-12, atol=0)
    expected = torch.autograd.grad(expected, list(textbook.generator.parameters()))
    torch.testing.assert_close(gradients(ours.generator), list(expected), rtol=1e-9, atol=1e-13)


def test_the_generator_is_compared_with_the_images_of_the_critics_update(state):
    pairs = []

    def generator(fake_logits, real_logits):
        pairs.append(real_logits)
        return fake_logits.mean()

    paired = Loss("paired", lambda real, fake: (real - fake).mean(), generator, "", needs_real=True)
    trained = state(lr_critic=1e-30)  # the critic stays what it is
    images, critic = trained.next_batch().images, copy.deepcopy(trained.critic)
    trained.next_batch = lambda: Batch(images)
    trained.loss = paired
    train_step(trained)
    trained.loss = Loss("unpaired", paired.critic, generator, "")
    train_step(trained)
    torch.testing.assert_close(pairs[0], critic(images))
    assert not pairs[0].requires_grad
    assert pairs[1] is None


def test_without_penalties_nothing_looks_at_the_critics_gradient(state, monkeypatch):
    """The plain step is what it was before there were penalties."""
    monkeypatch.setattr("fastgan.train.closures.critic_loss", None)
    step = train_step(state(loss="nonsaturating", penalty="none"))
    assert step.scalars().keys() == {"critic", "generator"}


def test_names_in_the_log(state):
    step = critic_gradients(state(), LOSSES["hinge"], state().next_batch().images, parse("r1:1,r2:1,wgan-gp"))
    values = step.scalars()
    for name in ("r1", "r2", "wgan-gp"):
        torch.testing.assert_close(values[f"gradient_norm_{name}"], step.gradient_norms[name].mean())
        assert values[f"penalty_{name}"] is step.penalties[name]
    torch.testing.assert_close(values["penalty_r1"], step.gradient_norms["r1"].square().mean() / 2)
