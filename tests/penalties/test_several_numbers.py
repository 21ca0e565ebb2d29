"""Penalties of critics that give a vector: of its logit or of log Z, by Jacobians; refused where there is neither."""

import copy
import re

import pytest
import torch
from torch import nn
from torch.func import functional_call, jacrev, vmap

import fastgan
from fastgan.losses import LOSSES, Loss, feature_matching_with, hinge, nonsaturating, semi_supervised
from fastgan.ops import interpolate
from fastgan.penalties import R1, R2, WGANGP, differentiable_critic_loss
from tests.penalties.critics import gradients, relative_error

OBJECTIVES = {
    "sliced_wasserstein": (LOSSES["sliced_wasserstein"], lambda outputs: outputs[0]),
    "feature_matching": (feature_matching_with(hinge), lambda outputs: outputs[0]),
    "semi_supervised": (semi_supervised(nonsaturating), lambda outputs: outputs.exp().sum().log()),
}
EVERY = pytest.mark.parametrize(("loss", "number"), OBJECTIVES.values(), ids=OBJECTIVES)
PENALTIES = (R1(2.0), R2(5.0), WGANGP(3.0))


@pytest.fixture
def critic(generator):
    return nn.Sequential(nn.Linear(6, 8), nn.LeakyReLU(0.2), nn.Linear(8, 5), nn.Tanh(), nn.Linear(5, 4)).double()


@pytest.fixture
def samples(generator):
    return torch.randn(2, 7, 6, dtype=torch.float64, generator=generator)


def textbook(critic, real, fake, loss, number):
    """Loss and penalties by the Jacobian of one number, sample by sample, and the norms."""
    torch.manual_seed(3)
    points = {"r1": real, "r2": fake, "wgan-gp": interpolate(real, fake, torch.randint(2**62, (1,)))}
    parameters = dict(critic.named_parameters())

    def slope(x):
        return jacrev(lambda x: number(functional_call(critic, parameters, (x[None],))[0]))(x)

    norms = {name: vmap(slope)(x).norm(dim=1) for name, x in points.items()}
    penalties = norms["r1"].square().mean() + 2.5 * norms["r2"].square().mean()
    penalties = penalties + 3 * (norms["wgan-gp"] - 1).square().mean()
    return loss.critic(critic(real), critic(fake)) + penalties, norms


def differentiable(critic, real, fake, loss, penalties):
    return differentiable_critic_loss(critic, real, fake, loss, penalties)


def in_one_call(critic, real, fake, loss, penalties):
    return fastgan.critic_loss(critic, real, fake, loss=loss, penalties=penalties)


@EVERY
@pytest.mark.parametrize("function", [in_one_call, differentiable])
def test_penalties_are_those_of_the_logit(function, loss, number, critic, samples):
    expected, norms = textbook(other := copy.deepcopy(critic), *samples, loss, number)
    torch.manual_seed(3)
    found = function(critic, *samples, loss, PENALTIES)
    torch.testing.assert_close(found.detach().as_subclass(torch.Tensor), expected.detach(), rtol=1e-11, atol=0)
    for name, norm in norms.items():
        torch.testing.assert_close(found.gradient_norms[name], norm.detach(), rtol=1e-10, atol=1e-13)
    assert relative_error(gradients(critic, found), gradients(other, expected)) <= 1e-10


@EVERY
def test_the_default_penalty_is_that_of_the_logit(loss, number, critic, samples):
    found = fastgan.critic_loss(critic, *samples, loss=loss)
    norms = textbook(critic, *samples, loss, number)[1]["r1"]
    torch.testing.assert_close(found.penalties["r1"], 5 * norms.square().mean().detach(), rtol=1e-10, atol=0)
    assert found.method == "double_backward"
    assert found.reason == "the loss is of several numbers per sample, and its penalties are of a function of them"


@pytest.mark.parametrize("output", ["features", "logit and features", "class logits"])
def test_several_numbers_without_a_witness_take_none(output, critic, samples):
    """Or the penalty would be that of their sum."""

    def gap(real, fake):
        return (real.mean(0) - fake.mean(0)).square().sum()

    loss = Loss("mine", gap, lambda fake, real: -gap(real, fake), "", True, output)
    message = f"penalties is (R1(gamma=10.0),), expected () for mine, a loss of {output} without a witness"
    with pytest.raises(ValueError, match=re.escape(f"critic_loss: {message}")):
        fastgan.critic_loss(critic, *samples, loss=loss)
    with pytest.raises(ValueError, match=re.escape(f"differentiable_critic_loss: {message}")):
        differentiable_critic_loss(critic, *samples, loss, (R1(10.0),))
    expected = gap(*(critic(side) for side in samples)).item()
    assert fastgan.critic_loss(critic, *samples, loss=loss, penalties=()).item() == pytest.approx(expected)
    assert differentiable_critic_loss(critic, *samples, loss).item() == pytest.approx(expected)


@pytest.mark.parametrize("name", ["began", "began:0.7"])
def test_an_objective_with_a_state_is_not_made_anew_at_every_call(name, samples):
    critic = fastgan.nn.ReconstructionError(nn.Linear(6, 6).double(), power=1)
    with pytest.raises(ValueError, match=rf"loss is '{name}', which has a state, expected .* = fastgan\.losses\.parse"):
        fastgan.critic_loss(critic, *samples, loss=name)
    loss = fastgan.losses.parse(name)
    first = fastgan.critic_loss(critic, *samples, loss=loss)
    loss.update(first.real_logits, 0.1 * first.fake_logits)
    then = fastgan.critic_loss(critic, *samples, loss=loss)
    assert (first - then).item() == pytest.approx((loss.k * first.fake_logits.mean()).item(), rel=1e-9)
    assert loss.k > 0
