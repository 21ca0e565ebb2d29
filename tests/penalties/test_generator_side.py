"""generator_loss_from against an ordinary pass through the critic."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import fastgan
from fastgan.losses import LOSSES, Loss
from fastgan.penalties import R1, R2
from tests.penalties.common import ALL, assert_same, plain
from tests.penalties.critics import gradients

pytestmark = pytest.mark.usefixtures("one_thread")


def generator() -> nn.Module:
    return nn.Sequential(nn.Linear(5, 16), nn.Tanh(), nn.Linear(16, 3 * 64), nn.Unflatten(1, (3, 8, 8))).double()


# Of a witness function, penalties know another gradient than the critic's: tests/penalties/test_witness.py.
@pytest.mark.parametrize("name", [name for name, loss in LOSSES.items() if loss.witness is None])
@pytest.mark.parametrize("by_name", [True, pytest.param(False)])
def test_the_generator_s_gradient_needs_no_pass_through_the_critic(critic, samples, method, name, by_name):
    real, net, z = samples[0], generator(), torch.randn(4, 5).double()
    value = LOSSES[name].generator(critic(net(z)), critic(real).detach())
    truth = gradients(net, value)
    critic.zero_grad()
    net.zero_grad()
    loss = name if by_name and name != "began" else LOSSES[name]  # began has a state, and no name will do
    total = fastgan.critic_loss(critic, real, net(z), loss=loss, penalties=(R1(1.0), R2(2.0)), method=method)
    total.backward()
    assert all(p.grad is None for p in net.parameters())
    before = {n: p.grad.clone() for n, p in critic.named_parameters()}
    found = fastgan.generator_loss_from(total)
    torch.testing.assert_close(found.detach(), value.detach())
    assert_same(gradients(net, 3 * found), {n: 3 * g for n, g in truth.items()})
    assert all(torch.equal(p.grad, before[n]) for n, p in critic.named_parameters()), "the critic got a gradient"


def test_another_loss_for_the_generator(critic, samples, method):
    real, net, z = samples[0], generator(), torch.randn(4, 5).double()
    truth = gradients(net, LOSSES["wasserstein"].generator(critic(net(z)), None))
    objective = Loss("own", plain, lambda fake, real: -fake.mean(), "none")
    for loss in ("wasserstein", objective):
        total = fastgan.critic_loss(critic, real, net(z), loss=plain, penalties=ALL, method=method)
        assert_same(gradients(net, fastgan.generator_loss_from(total, loss)), truth)


def test_its_gradient_cannot_be_differentiated_again(critic, samples, method):
    net = generator()
    total = fastgan.critic_loss(critic, samples[0], net(torch.randn(4, 5).double()), penalties=ALL, method=method)
    found = torch.autograd.grad(fastgan.generator_loss_from(total), list(net.parameters()), create_graph=True)
    size = sum(g.square().sum() for g in found)
    for parameters in (net.parameters(), critic.parameters()):
        with pytest.raises(RuntimeError, match="cannot be differentiated again"):
            torch.autograd.grad(size, list(parameters), allow_unused=True, retain_graph=True)


def test_the_critic_s_logits_stay_detached(critic, samples, method):
    total = fastgan.critic_loss(
        critic, samples[0], generator()(torch.randn(4, 5).double()), penalties=ALL, method=method
    )
    fastgan.generator_loss_from(total)
    assert not total.fake_logits.requires_grad


@pytest.mark.parametrize("middle", [nn.BatchNorm1d(8), nn.SiLU()])
def test_a_critic_that_may_mix_its_samples(middle, seed):
    """What is known is the gradient of the sum of the outputs: enough for equal slopes; others need the graph."""
    torch.manual_seed(seed)
    critic = nn.Sequential(nn.Linear(5, 8), middle, nn.LeakyReLU(0.2), nn.Linear(8, 1)).double()
    net, z = nn.Linear(5, 5).double(), torch.randn(4, 5).double()
    total = fastgan.critic_loss(critic, torch.randn(4, 5).double(), net(z), penalties=(R2(1.0),))
    truth = gradients(net, F.softplus(-critic(net(z))).mean())
    assert_same(gradients(net, fastgan.generator_loss_from(total)), truth)
    total = fastgan.critic_loss(critic, torch.randn(4, 5).double(), net(z), penalties=(R2(1.0),))
    total.backward()
    with pytest.raises(ValueError, match="may mix the samples of a batch"):
        fastgan.generator_loss_from(total)
    truth = gradients(net, -critic(net(z)).mean())
    assert_same(gradients(net, fastgan.generator_loss_from(total, "hinge")), truth)


def test_what_generator_loss_from_cannot_do(critic, samples):
    real, fake = samples
    with pytest.raises(ValueError, match="fake was detached"):
        fastgan.generator_loss_from(fastgan.critic_loss(critic, real, fake, penalties=ALL))
    attached = fake.clone().requires_grad_()
    with pytest.raises(ValueError, match="no penalty was on the fakes"):
        fastgan.generator_loss_from(fastgan.critic_loss(critic, real, attached, penalties=(R1(1.0),)))
    with pytest.raises(ValueError, match="expected one of nonsaturating"):
        fastgan.generator_loss_from(fastgan.critic_loss(critic, real, attached, loss=plain, penalties=ALL))
    with pytest.raises(ValueError, match="loss is 'other'"):
        fastgan.generator_loss_from(fastgan.critic_loss(critic, real, attached, penalties=ALL), "other")
