"""Every pair of choices of a run: refused with a reason, or a step with finite losses, and after it finite networks."""

import dataclasses
import itertools
from functools import partial

import pytest
import torch

from fastgan.data import load
from fastgan.errors import UserError
from fastgan.games import GAMES
from fastgan.losses import LOSSES
from fastgan.models import PRESETS, DCGANCritic, DCGANGenerator
from fastgan.train.conditioning import CONDITIONINGS
from fastgan.train.state import TrainState
from fastgan.train.step import train_step
from tests.rotation import in_turn

# One of every kind: of those that differ by a formula alone, the first.
KINDS = {
    (loss.output, loss.needs_real, type(loss), loss.witness is None): name for name, loss in reversed(LOSSES.items())
}
SETTINGS = {"competitive": "competitive:1e-3:2", "follow-the-ridge": "follow-the-ridge:1:1e-3:2"}  # fewer iterations
CHOICES = {
    "loss": [*KINDS.values(), "label_smoothing:0.9:nonsaturating", "feature_matching:hinge"],
    "penalty": ["r1:1,r2:1", "wgan-gp:1,dragan:1"],
    "optimizer": [*(SETTINGS.get(name, name) for name in GAMES), "runge-kutta:4:1"],
    "unroll": [2],
    "pack": [2],
    "conditional": list(CONDITIONINGS),
    "path_length": [1.0],
    "spectral_norm": [True],
    "clip_weights": [0.1],
    "orthogonal": [1e-3],
    "instance_noise": [0.1],
    "penalty_every": [2],
    "beta1": [0.25],
}
PAIRS = list(itertools.combinations(CHOICES, 2))


@pytest.fixture
def small(monkeypatch):
    """digits-dcgan of few channels."""
    images = {"channels": 1, "resolution": 8}
    critic = {"width": 4, "features": 8, "similarities": 4, "kernel_dims": 2, "dropout": 0.4, "noise": 0.3}
    generator = partial(DCGANGenerator, latent_dim=64, width=4, **images)
    made = dataclasses.replace(
        PRESETS["digits-dcgan"], generator=generator, critic=partial(DCGANCritic, **images, **critic)
    )
    monkeypatch.setitem(PRESETS, "digits-dcgan", made)


def takes_a_step(config):
    state = TrainState(config, load("digits", 8, 1), torch.device("cpu"))
    state.every_batch = lambda: [state.next_batch()]  # of variance reduction's snapshot
    before = [p.detach().clone() for p in state.game.parameters]
    with state.layer_randomness():
        step = train_step(state, config.regularisation)
    assert {"critic", "generator"} <= step.losses.keys()
    assert all(value.isfinite().all() for value in step.scalars().values())
    assert all(p.isfinite().all() for p in state.game.parameters)
    assert any((p != q).any() for p, q in zip(state.game.parameters, before, strict=True))


@pytest.mark.parametrize(("one", "other"), in_turn(PAIRS, "pairs", run=26), ids=map("-".join, PAIRS))
def test_every_pair(tiny, small, one, other):
    for values in itertools.product(CHOICES[one], CHOICES[other]):
        chosen = dict(zip((one, other), values, strict=True))
        try:
            config = tiny(batch_size=4, **chosen)
        except UserError as error:
            assert ", expected " in str(error), chosen  # noqa: PT017 (either way is right)
            assert str(error).startswith("--"), chosen  # noqa: PT017
            continue
        try:
            takes_a_step(config)
        except Exception as error:
            raise AssertionError(f"{chosen} is neither refused nor trained") from error


@pytest.mark.parametrize("name", [name for name in CHOICES if name not in ("path_length", "penalty_every")])
def test_each_alone_is_trained(tiny, small, name):
    for value in CHOICES[name]:
        takes_a_step(tiny(batch_size=4, **{name: value}))
