"""Runs whose generator looks through steps of the critic, against finite differences of real steps of its optimiser."""

import copy
import dataclasses

import pytest
import torch

from fastgan.data import load
from fastgan.errors import UserError
from fastgan.nn import BiasAct
from fastgan.train import TrainConfig, resume
from fastgan.train.closures import Closures
from fastgan.train.labels import given
from fastgan.train.regularisation import Regularisation
from fastgan.train.state import TrainState
from fastgan.train.step import train_step

K = 2


@pytest.fixture
def state(tiny, double):
    """Makes the state of a run in float64 and with smooth activations, after two steps of it."""

    def make(**changes):
        made = double(tiny(**{"preset": "digits-resnet", "penalty": "none", "batch_size": 8, **changes}))
        for layer in (*made.generator.modules(), *made.critic.modules()):
            if isinstance(layer, BiasAct) and layer.act == "lrelu":
                layer.act = "swish"  # finite differences would step over the kinks
        for _ in range(2):
            train_step(made, Regularisation())
        return made

    return make


def closures(made, steps=K):
    """Those of the next step, with the batch of the critic's."""
    found = Closures(made, Regularisation(unroll=steps))
    found.critic()
    found._one_batch = True  # the generator is judged on what `after_real_steps` sees
    return found


def after_real_steps(made, batch):
    """The generator's loss after the critic's own optimiser made K steps on the batch, all on copies."""
    critic, generator = copy.deepcopy(made.critic), copy.deepcopy(made.generator)
    loss, told = made.conditioning.with_labels(made.loss, batch._labels)
    of_real, of_fake = given(told.real), given(told.fake)
    kind, group = type(made.critic_optimizer), made.critic_optimizer.param_groups[0]
    optimizer = kind(critic.parameters(), **{k: group[k] for k in ("lr", "betas") if k in group})
    optimizer.load_state_dict(copy.deepcopy(made.critic_optimizer.state_dict()))
    samples = generator(batch._latents, *given(batch._labels.fake)).detach()
    torch.manual_seed(3)  # of the noise
    for _ in range(K):
        optimizer.zero_grad()
        loss.critic(critic(batch._images, *of_real), critic(samples, *of_fake)).backward()
        optimizer.step()
    with torch.no_grad():
        fake = critic(samples, *of_fake)  # first, as the noise is drawn
        return loss.generator(fake, critic(batch._images, *of_real) if loss.needs_real else None).item()


@pytest.mark.parametrize(
    "changes",
    [
        {"loss": "nonsaturating"},
        {"loss": "relativistic_pairing"},  # whose real logits depend on the generator through the critic's steps
        {"loss": "nonsaturating", "pack": 2, "instance_noise": 0.3},
        {"loss": "nonsaturating", "optimizer": "runge-kutta", "lr_critic": 0.05},  # plain SGD
        {"loss": "relativistic_pairing", "conditional": "projection", "instance_noise": 0.3},
        {"loss": "nonsaturating", "conditional": "auxiliary-classifier"},
    ],
    ids=["Adam", "relativistic", "packs and noise", "SGD", "projection", "auxiliary classifier"],
)
def test_value_and_gradient_are_those_of_real_steps_of_the_critic(state, changes):
    made = state(**changes)
    batch, parameters = closures(made), list(made.generator.parameters())
    before = copy.deepcopy((made.critic.state_dict(), made.critic_optimizer.state_dict()["state"]))
    for p in made.critic.parameters():
        p.requires_grad_(False)  # as games do
        p.grad = None
    torch.manual_seed(3)
    value = batch.generator()
    gradients = torch.autograd.grad(value, parameters)
    assert not any(p.requires_grad or p.grad is not None for p in made.critic.parameters())
    made.critic.requires_grad_(True)
    torch.testing.assert_close(
        (made.critic.state_dict(), made.critic_optimizer.state_dict()["state"]), before, rtol=0, atol=0
    )
    assert value.item() == pytest.approx(after_real_steps(made, batch), rel=1e-9)
    assert batch.step.losses["generator"].item() == value.item()

    torch.manual_seed(5)
    directions = [torch.randn_like(p) for p in parameters]
    numeric, h = 0.0, 1e-5
    for offset, weight in ((1, 8), (-1, -8), (2, -1), (-2, 1)):  # of fourth order
        with torch.no_grad():
            torch._foreach_add_(parameters, directions, alpha=offset * h)
        numeric += weight * after_real_steps(made, batch) / (12 * h)
        with torch.no_grad():
            torch._foreach_sub_(parameters, directions, alpha=offset * h)
    slope = sum((g * d).sum() for g, d in zip(gradients, directions, strict=True)).item()
    assert slope == pytest.approx(numeric, rel=1e-5)
    plain = torch.autograd.grad(closures(made, 0).generator(), parameters)
    assert slope != pytest.approx(sum((g * d).sum() for g, d in zip(plain, directions, strict=True)).item(), rel=1e-2)


@pytest.mark.parametrize(
    "loss", ["hinge", "fgan:kl", "mmd", "sliced_wasserstein", "ebgan", "began", "feature_matching:hinge"]
)
def test_critics_of_every_kind_can_be_unrolled(tiny, loss):
    """With minibatch discrimination, dropout and noise; autoencoders with batch norm."""
    both_players_move(tiny(loss=loss, batch_size=8, spectral_norm=True))


def test_stylegan2_can_be_unrolled(tiny):
    """Beside its path lengths, whose gradient is taken first."""
    settings = {"penalty": "none", "path_length": 1.0, "path_length_every": 1, "batch_size": 4}
    both_players_move(tiny(preset="stylegan2-small", resolution="8", channels=1, **settings))


def both_players_move(config):
    made = TrainState(config, load("digits", 8, 1), torch.device("cpu"))
    before = [p.detach().clone() for p in (*made.generator.parameters(), *made.critic.parameters())]
    regularisation = dataclasses.replace(config.regularisation, unroll=1)
    for _ in range(2):
        step = train_step(made, regularisation)
    assert all(value.isfinite() for value in step.scalars().values())
    parameters = [*made.generator.parameters(), *made.critic.parameters()]
    assert all(p.isfinite().all() for p in parameters)
    moved = [(p != q).any() for p, q in zip(parameters, before, strict=True)]
    assert sum(moved) >= len(moved) - 1  # the bias of a layer's features may cancel


def test_a_resumed_run_goes_on_bit_for_bit(resumed):
    """digits-dcgan: dropout and noise are drawn in every step of the critic that is looked through."""
    run = resumed(unroll=2, optimizer="alternating:2", spectral_norm=True, batch_size=8)
    with pytest.raises(UserError, match=r"--unroll is 0, but the run was started with 2; expected the same"):
        resume(run, quiet=True, steps=6, unroll=0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"unroll": -1}, "--unroll is -1, expected at least 0"),
        (
            {"unroll": 5, "optimizer": "consensus"},
            "--unroll is 5, expected 0: consensus differentiates the generator's",
        ),
        (
            {"unroll": 5, "optimizer": "runge-kutta:2:0.1"},
            "--unroll is 5, expected 0: runge-kutta:2:0.1 differentiates",
        ),
        (
            {"unroll": 5, "penalty": "r1:1"},
            "--penalty is 'r1:1', expected none: --unroll differentiates the critic's st",
        ),
        ({"unroll": 5, "clip_weights": 0.1}, "--clip-weights is 0.1, expected 0: --unroll looks through steps that cl"),
    ],
)
def test_what_cannot_be(changes, message, tmp_path):
    with pytest.raises(UserError, match=message):
        TrainConfig.for_preset(**{"preset": "digits-dcgan", "out": tmp_path / "run", **changes})
