"""Runs with objectives of features and of reconstruction errors, and with the ones that have a state."""

import pytest
import torch

from fastgan.data import load
from fastgan.errors import UserError
from fastgan.losses import LOSSES
from fastgan.models import PRESETS
from fastgan.nn import ReconstructionError
from fastgan.train import TrainConfig, resume, train
from fastgan.train.checkpoint import find_checkpoint, read_checkpoint
from fastgan.train.closures import critic_objective, generator_objective
from fastgan.train.networks import FEATURES, build_critic
from fastgan.train.state import TrainState
from fastgan.train.step import train_step

OTHERS = [name for name, loss in LOSSES.items() if loss.output != "logit"]
OTHERS += ["label_smoothing:0.9:nonsaturating", "feature_matching:hinge"]


@pytest.fixture
def state(tiny):
    def make(**changes):
        config = tiny(**{"preset": "digits-resnet", "penalty": "none", "batch_size": 8, **changes})
        return TrainState(config, load("digits", 8, 1), torch.device("cpu"))

    return make


@pytest.mark.parametrize("preset", ["digits-dcgan", "digits-resnet"])
@pytest.mark.parametrize("loss", OTHERS)
def test_both_players_learn(loss, preset, state):
    made = state(loss=loss, preset=preset)
    before = [p.detach().clone() for p in (*made.critic.parameters(), *made.generator.parameters())]
    for _ in range(2):
        step = train_step(made)
    assert all(value.isfinite() for value in step.losses.values())
    moved = [
        (p != q).any() for p, q in zip((*made.critic.parameters(), *made.generator.parameters()), before, strict=True)
    ]
    # The bias of features or of a Wasserstein critic's logits may cancel.
    assert sum(moved) >= len(moved) - 1


def test_what_critics_give(state):
    images = state().next_batch().images
    assert state(loss="mmd").critic(images).shape == (8, FEATURES)
    critic = state(loss="began").critic
    assert isinstance(critic, ReconstructionError)
    assert critic.power == 1
    assert critic(images).shape == (8,)
    assert state(loss="ebgan:1").critic.power == 2


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_has_features_to_match(preset, tmp_path):
    config = TrainConfig.for_preset(preset, tmp_path, loss="feature_matching", penalty="none", resolution="8")
    critic = build_critic(config, 0)
    images = torch.randn(4, config.image_shape[0], 8, 8)
    critic.eval()
    found = critic(images)
    assert torch.equal(found[:, :1], critic.critic(images))
    assert found.shape[1] > FEATURES


def test_the_generator_minimises_the_distance_of_features_alone(state):
    """Its gradient, against the critic's own layer; the critic's is that of its game."""
    made = state(loss="feature_matching:wasserstein")
    images, latents = made.next_batch().images, made.next_latents()
    samples = made.generator(latents)
    body = made.critic.critic.features
    gap = body(images).flatten(1).mean(0) - body(samples).flatten(1).mean(0)
    truth = torch.autograd.grad(gap.square().sum(), list(made.generator.parameters()), retain_graph=True)
    value = generator_objective(made, made.loss, images, latents)
    found = torch.autograd.grad(value, list(made.generator.parameters()))
    for ours, expected in zip(found, truth, strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-5 * expected.abs().max().item())
    total, step = critic_objective(made, made.loss, images, latents)
    assert step.losses["critic"] == total
    expected = made.critic.critic(samples).mean() - made.critic.critic(images).mean()
    torch.testing.assert_close(total, expected)


def test_a_resumed_run_that_matches_features_goes_on_bit_for_bit(tiny):
    chosen = {"batch_size": 8, "loss": "feature_matching:hinge", "penalty": "r1:0.5,wgan-gp:1", "spectral_norm": True}
    whole = train(tiny("whole", steps=4, **chosen), quiet=True)
    first = train(tiny("parts", steps=2, **chosen), quiet=True)
    resume(first.run, quiet=True, steps=4)
    expected, found = (read_checkpoint(find_checkpoint(run.run, "--out"))[0] for run in (whole, first))
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[key], found[key]) for key in expected)


def test_k_of_began_follows_the_errors_and_goes_through_a_checkpoint(tiny, state):
    made = state(loss="began")
    batch, latents = made.next_batch(), made.next_latents()
    made.next_batch, made.next_latents = lambda: batch, lambda: latents
    with torch.no_grad():
        real, fake = made.critic.eval()(batch.images).mean(), made.critic(made.generator.eval()(latents)).mean()
    train_step(made)
    assert made.loss.k.item() == pytest.approx(max(0.0, (0.001 * (0.5 * real - fake)).item()), abs=1e-7)

    chosen = {"preset": "digits-resnet", "penalty": "none", "batch_size": 8, "loss": "began:1"}
    whole = train(tiny("whole", steps=4, **chosen), quiet=True)
    first = train(tiny("parts", steps=2, **chosen), quiet=True)
    resume(first.run, quiet=True, steps=4)
    expected, found = (read_checkpoint(find_checkpoint(run.run, "--out"))[0] for run in (whole, first))
    assert "loss.k" in expected
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[key], found[key]) for key in expected)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"loss": "ebgan", "preset": "stylegan2-small"}, "--loss is 'ebgan', expected an objective of logits or feat"),
        ({"loss": "label_smoothing:0.9:hinge"}, "--loss is label_smoothing: loss is hinge, whose critic has no target"),
        (
            {"loss": "feature_matching:mmd"},
            "--loss is feature_matching_with: loss is mmd, a game of features, expected one",
        ),
        ({"loss": "began:2"}, "--loss is began: gamma is 2.0, expected a number above 0"),
    ],
)
def test_what_is_refused(changes, message, tmp_path):
    with pytest.raises(UserError, match=message):
        TrainConfig.for_preset(**{"preset": "digits-dcgan", "out": tmp_path / "run", **changes})
