"""Runs whose critic sees everything through noise: gradients with the noise written out, its schedule, resumption."""

import json

import pytest
import torch

from fastgan.data import load
from fastgan.errors import UserError
from fastgan.losses import LOSSES
from fastgan.nn import InstanceNoise
from fastgan.penalties import parse
from fastgan.train import TrainConfig, resume, train
from fastgan.train.checkpoint import read_checkpoint
from fastgan.train.closures import critic_objective, generator_objective
from fastgan.train.state import TrainState
from fastgan.train.step import train_step

STD = 0.5
METHODS = {"alternating": "one pass", "consensus": "double backward, for consensus"}


@pytest.fixture
def state(tiny):
    """Makes the state of a run with a critic that has no randomness but the noise; every one is the same."""

    def make(**changes):
        chosen = {"preset": "digits-resnet", "penalty": "none", "instance_noise": STD, **changes}
        made = TrainState(tiny(**chosen), load("digits", 8, 1), torch.device("cpu"))
        assert made.critic.training
        return made

    return make


def doubled(made):
    made.generator.double(), made.critic.double()
    return made.next_batch().images.double(), made.next_latents().double()


def noisy(x):
    return x + STD * torch.randn_like(x)


@pytest.mark.parametrize("m", [1, 2])
@pytest.mark.parametrize("optimizer", METHODS)
def test_the_critic_and_its_penalties_see_the_noise(state, optimizer, m):
    """Noise is a constant of the input: penalties are of the network's gradient at the noisy points."""
    ours, textbook = (state(optimizer=optimizer, pack=m) for _ in range(2))
    loss = LOSSES["hinge"]
    torch.manual_seed(3)
    total, step = critic_objective(ours, loss, *doubled(ours), parse("r1:1"))
    total.backward(inputs=list(ours.critic.parameters()))
    assert step.method == METHODS[optimizer]

    torch.manual_seed(3)
    images, latents = doubled(textbook)
    network = (textbook.critic if m == 1 else textbook.critic.critic)[1]
    real, fake = (x.reshape(len(x) // m, m, 8, 8) for x in (images, textbook.generator(latents).detach()))
    if optimizer == "alternating":
        real, fake = noisy(real), noisy(fake)
        at = real
    else:  # the logits of the loss and the points of the penalty are from calls of their own
        clean = real
        real, fake = noisy(real), noisy(fake)
        at = noisy(clean)
    at.requires_grad_()
    (g,) = torch.autograd.grad(network(at).sum(), at, create_graph=True)
    expected = loss.critic(network(real), network(fake)) + g.square().sum((1, 2, 3)).mean() / 2
    expected = torch.autograd.grad(expected, list(network.parameters()))
    torch.testing.assert_close([p.grad for p in ours.critic.parameters()], list(expected), rtol=1e-8, atol=1e-10)


def test_the_generator_is_judged_through_the_noise(state):
    ours, textbook = state(), state()
    torch.manual_seed(3)
    value = generator_objective(ours, LOSSES["hinge"], *doubled(ours))
    torch.manual_seed(3)
    _, latents = doubled(textbook)
    torch.testing.assert_close(value, -textbook.critic[1](noisy(textbook.generator(latents))).mean())


def test_noise_falls_with_the_number_of_the_step(state):
    made, seen = state(instance_noise_steps=4, optimizer="alternating:2", loss="hinge"), []
    made.noise.register_forward_hook(lambda layer, *_: seen.append((made.step, layer.std.item())))
    logged = [train_step(made).scalars()["instance_noise"] for _ in range(6)]
    expected = [0.5, 0.375, 0.25, 0.125, 0.0, 0.0]
    assert torch.stack(logged).tolist() == expected
    assert seen == [(step, std) for step, std in enumerate(expected) for _ in range(5)]


@pytest.mark.parametrize("pack", [1, 2])
def test_a_resumed_run_goes_on_bit_for_bit(pack, tiny):
    """However often it stops on its way: the schedule is that of the first settings."""
    chosen = {"preset": "digits-resnet", "penalty": "wgan-gp:10", "spectral_norm": True, "pack": pack}
    chosen |= {"instance_noise": STD}
    whole = train(tiny("whole", steps=5, instance_noise_steps=3, **chosen), quiet=True)
    train(tiny("parts", steps=3, **chosen), quiet=True)
    resume(tiny("parts").out, quiet=True, steps=4)
    parts = resume(tiny("parts").out, quiet=True, steps=5, instance_noise_steps=3)
    one, other = (read_checkpoint(result.checkpoint)[0] for result in (whole, parts))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)
    lines = [json.loads(line) for line in (parts.run / "log.jsonl").read_text().splitlines()]
    assert [line["instance_noise"] for line in lines] == pytest.approx([0.5, 1 / 3, 1 / 6, 0, 0])
    with pytest.raises(
        UserError, match=r"--instance-noise-steps is 6, but the run was started with 3; expected the sa"
    ):
        resume(parts.run, quiet=True, steps=6, instance_noise_steps=6)
    with pytest.raises(
        UserError, match=r"--instance-noise is 0.1, but the run was started with 0.5; expected the same"
    ):
        resume(parts.run, quiet=True, steps=6, instance_noise=0.1)


def test_without_it_there_is_no_layer(state):
    made = state(instance_noise=0.0)
    assert not any(isinstance(layer, InstanceNoise) for layer in made.critic.modules())
    assert "instance_noise" not in train_step(made).scalars()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"instance_noise": -0.1}, "--instance-noise is -0.1, expected a number of at least 0"),
        ({"instance_noise": float("nan")}, "--instance-noise is nan, expected a number of at least 0"),
        ({"instance_noise": 0.1, "instance_noise_steps": -1}, "--instance-noise-steps is -1, expected at least 0"),
        ({"instance_noise_steps": 9}, "--instance-noise-steps is 9, expected 0 without --instance-noise"),
    ],
)
def test_what_cannot_be(changes, message, tmp_path):
    with pytest.raises(UserError, match=message):
        TrainConfig.for_preset(**{"preset": "digits-dcgan", "out": tmp_path / "run", **changes})
