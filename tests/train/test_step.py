"""One step's gradients, with every objective, against the textbook written out with autograd."""

import copy
from itertools import product

import pytest
import torch

from fastgan.losses import LOSSES, Loss
from fastgan.ops import interpolate
from tests.rotation import in_turn
from tests.train.steps import begun, gradients, networks, recipe_of

pytestmark = pytest.mark.usefixtures("one_thread")
PENALTIES = ["", "r1:1,r2:3", "wgan-gp:10"]
METHODS = {"digits-dcgan": "double backward, because ", "digits-resnet": "one pass"}


def plain(name="digits-resnet", **settings):
    """A run in float64, without dropout and noise; every one is the same."""
    run = begun(recipe_of(name, **{"penalty": "", **settings}), torch.float64)
    run.task.critics.eval()
    return run


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
    ("loss", "recipe", "penalty"), in_turn(list(product(LOSSES, METHODS, PENALTIES)), "critic gradients", run=48)
)
def test_critic_gradients_are_the_textbook_s(loss, recipe, penalty):
    ours, textbook = (plain(recipe, loss=loss, penalty=penalty) for _ in range(2))
    batch = ours.engine.batch()
    found, _ = gradients(ours, "critic", batch)

    torch.manual_seed(batch.key)  # of the interpolation weights
    loss, (generator, critic) = textbook.task.loss, networks(textbook)
    images = batch.tensors["image"]
    with torch.no_grad():
        samples = generator(batch.tensors["latent"])
    objective = loss.critic(critic(images), critic(samples))
    parts = dict(part.split(":") for part in penalty.split(",") if part)

    def watched(x):
        """Of features the witness function, of anything else the sum of the outputs."""
        return critic(x) if loss.witness is None else loss.witness(critic(x), critic(images), critic(samples))

    values = {name: textbook_penalty(watched, name, float(weight), images, samples) for name, weight in parts.items()}
    expected = torch.autograd.grad(objective + sum(values.values()), list(critic.parameters()))

    torch.testing.assert_close(found, list(expected), rtol=1e-8, atol=1e-10)
    log = ours.engine.log
    torch.testing.assert_close(log["critic"], objective.detach(), rtol=1e-9, atol=0)
    for name, value in values.items():
        torch.testing.assert_close(log[f"penalty_{name}"], value.detach(), rtol=1e-9, atol=0)
    assert {name for name in log if name.startswith("gradient_norm_")} == {f"gradient_norm_{name}" for name in parts}
    # A decoder ends in a tanh.
    how = "double backward, because " if loss.witness or loss.output == "error" else METHODS[recipe]
    assert ours.task.remark.startswith(f"gradient of the penalties: {how}" if parts else "")
    assert bool(ours.task.remark) == bool(parts)


@pytest.mark.parametrize("loss", LOSSES)
def test_generator_gradients_are_the_textbook_s(loss):
    ours, textbook = plain(loss=loss), plain(loss=loss)
    batch = ours.engine.batch()
    found, value = gradients(ours, "generator", batch)

    loss, (generator, critic) = textbook.task.loss, networks(textbook)
    torch.manual_seed(batch.key)  # of sliced Wasserstein's projections
    logits = critic(generator(batch.tensors["latent"]))
    expected = loss.generator(logits, critic(batch.tensors["image"]).detach())
    torch.testing.assert_close(value, expected.detach(), rtol=1e-12, atol=0)
    expected = torch.autograd.grad(expected, list(generator.parameters()))
    torch.testing.assert_close(found, list(expected), rtol=1e-9, atol=1e-13)


def test_the_generator_is_compared_with_the_images_of_the_critics_update():
    pairs = []

    def generator(fake_logits, real_logits):
        pairs.append(real_logits)
        return fake_logits.mean()

    paired = Loss("paired", lambda real, fake: (real - fake).mean(), generator, "", needs_real=True)
    run = plain(lr_critic=1e-30)  # the critic stays what it is
    critic, seen = copy.deepcopy(networks(run)[1]), []
    read = run.engine.reader.next
    run.engine.reader.next = lambda: seen.append(read()) or seen[-1]
    run.task.loss = paired
    next(run)
    run.task.loss = Loss("unpaired", paired.critic, generator, "")
    next(run)
    torch.testing.assert_close(pairs[0], critic(seen[0]["image"]))
    assert not pairs[0].requires_grad
    assert pairs[1] is None


def test_without_penalties_nothing_looks_at_the_critics_gradient(monkeypatch):
    """The plain step is what it was before there were penalties."""
    monkeypatch.setattr("fastgan.tasks.gan.critic_loss", None)
    run = plain(loss="nonsaturating")
    assert next(run).log.keys() == {"critic", "generator"}


def test_names_in_the_log():
    run = plain(loss="hinge", penalty="r1:1,r2:1,wgan-gp")
    run.engine.gradient("critic", run.engine.batch())
    names = {f"{what}_{name}" for what in ("penalty", "gradient_norm") for name in ("r1", "r2", "wgan-gp")}
    assert run.engine.log.keys() == {"critic"} | names
    assert run.engine.log["penalty_r1"] >= run.engine.log["gradient_norm_r1"] ** 2 / 2
