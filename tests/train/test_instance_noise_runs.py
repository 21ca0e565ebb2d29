"""Runs whose critic sees everything through noise: gradients with the noise written out, its schedule, resumption."""

import pytest
import torch

from fastgan import recipes
from fastgan.errors import UserError
from fastgan.losses import LOSSES
from fastgan.nn import InstanceNoise
from tests.train.steps import begun, gradients, log_of, networks, recipe_of, resumed

pytestmark = pytest.mark.usefixtures("one_thread")
STD = 0.5
METHODS = {"alternating": "one pass", "consensus": "double backward, as the game differentiates it once more"}


def noised(dtype=torch.float32, **settings):
    """A run with a critic that has no randomness but the noise; every one is the same."""
    run = begun(recipe_of("digits-resnet", **{"penalty": "", "instance_noise": STD, **settings}), dtype)
    assert networks(run)[1].training
    return run


def noisy(x):
    return x + STD * torch.randn_like(x)


@pytest.mark.parametrize("m", [1, 2])
@pytest.mark.parametrize("game", METHODS)
def test_the_critic_and_its_penalties_see_the_noise(game, m):
    """Noise is a constant of the input: penalties are of the network's gradient at the noisy points."""
    ours, textbook = (noised(torch.float64, game=game, pack=m, loss="hinge", penalty="r1:1") for _ in range(2))
    batch = ours.engine.batch()
    if game == "alternating":
        found, _ = gradients(ours, "critic", batch)
    else:
        found = torch.autograd.grad(ours.engine.losses(batch).critic, list(ours.task.critics.parameters()))
    assert ours.task.remark == f"gradient of the penalties: {METHODS[game]}"

    generator, critic = networks(textbook)
    network = (critic if m == 1 else critic.critic)[1]
    torch.manual_seed(batch.key)
    samples = generator(batch.tensors["latent"]).detach()
    real, fake = (x.reshape(len(x) // m, m, 8, 8) for x in (batch.tensors["image"], samples))
    if game == "alternating":
        real, fake = noisy(real), noisy(fake)
        at = real
    else:  # the logits of the loss and the points of the penalty are from calls of their own
        clean = real
        real, fake = noisy(real), noisy(fake)
        at = noisy(clean)
    at.requires_grad_()
    (g,) = torch.autograd.grad(network(at).sum(), at, create_graph=True)
    expected = LOSSES["hinge"].critic(network(real), network(fake)) + g.square().sum((1, 2, 3)).mean() / 2
    expected = torch.autograd.grad(expected, list(network.parameters()))
    torch.testing.assert_close(list(found), list(expected), rtol=1e-8, atol=1e-10)


def test_the_generator_is_judged_through_the_noise():
    ours, textbook = noised(torch.float64, loss="hinge"), noised(torch.float64, loss="hinge")
    batch = ours.engine.batch()
    value = ours.engine.gradient("generator", batch)
    generator, critic = networks(textbook)
    torch.manual_seed(batch.key)
    torch.testing.assert_close(value, -critic[1](noisy(generator(batch.tensors["latent"]))).mean().detach())


def test_noise_follows_its_schedule():
    run = noised(instance_noise="{from: 0.5, to: 0, over: 4}", game="alternating:2", loss="hinge")
    seen, (layer,) = [], [m for m in networks(run)[1].modules() if isinstance(m, InstanceNoise)]
    layer.register_forward_hook(lambda layer, *_: seen.append((run.step, layer.std.item())))
    logged = [next(run).log["instance_noise"] for _ in range(6)]
    expected = [0.5, 0.375, 0.25, 0.125, 0.0, 0.0]
    assert torch.stack(logged).tolist() == expected
    assert seen == [(step, std) for step, std in enumerate(expected) for _ in range(5)]


@pytest.mark.parametrize("pack", [1, 2])
def test_a_resumed_run_goes_on_bit_for_bit(pack, tmp_path):
    noise = {"instance_noise": "{from: 0.5, to: 0, over: 3}", "penalty": "wgan-gp:10", "spectral_norm": True}
    run = resumed(tmp_path, "digits-resnet", pack=pack, steps=5, **noise)
    assert [line["instance_noise"] for line in log_of(run)] == pytest.approx([0.5, 1 / 3, 1 / 6, 0, 0])
    for other, message in (
        ("{from: 0.5, to: 0, over: 6}", "task.instance_noise.over is 6, but the run was started with 3; expected the"),
        (0.1, "task.instance_noise is 0.1, but the run was started with {"),
    ):
        recipe = recipe_of("digits-resnet", pack=pack, **{**noise, "instance_noise": other})
        with pytest.raises(UserError, match=message):
            recipes.start(recipe, run, resume=True, quiet=True)


def test_without_it_there_is_no_layer():
    run = noised(instance_noise=0.0)
    assert not any(isinstance(layer, InstanceNoise) for layer in networks(run)[1].modules())
    assert "instance_noise" not in next(run).log


@pytest.mark.parametrize(
    "noise", ["-0.1", ".nan", "{from: 0.5, to: -1, over: 3}", "{from: 0.5, to: 0, over: 0}", "{from: 0.5, to: 0}"]
)
def test_what_cannot_be(noise):
    with pytest.raises(UserError, match=r"^task.instance_noise is .*expected"):
        recipe_of("digits-dcgan", instance_noise=noise)
