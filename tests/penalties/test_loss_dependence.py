"""Losses that depend on more than the critic's outputs: a temperature, weights, what the critic has saved."""

import copy
import itertools

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations

import fastgan
from fastgan.losses import Loss
from fastgan.penalties import R1, R2, WGANGP
from tests.penalties.common import METHODS
from tests.penalties.critics import gradients, relative_error, textbook

pytestmark = pytest.mark.usefixtures("one_thread")


class Critic(nn.Module):
    """Keeps tensors on itself that a loss may use, and has parameters that only a loss uses."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.head = parametrizations.spectral_norm(nn.Linear(6, 8)), nn.Linear(8, 1)
        self.temperature, self.offset = nn.Parameter(torch.tensor(1.3)), nn.Parameter(torch.randn(3))

    def forward(self, x: Tensor) -> Tensor:
        weight = self.first.weight
        self.decay, self.size = weight.square().sum(), x.detach().square().mean()
        self.features = F.leaky_relu(F.linear(x, weight, self.first.bias), 0.2)
        return self.head(self.features)


def plain(real: Tensor, fake: Tensor) -> Tensor:
    return F.softplus(-real).mean() + F.softplus(fake).mean()


LOSSES = {
    "a temperature": lambda c: lambda r, f: F.softplus(-r * c.temperature).mean() + F.softplus(f).mean(),
    "a chain of parameters": lambda c: lambda r, f: plain(r, f) * (c.offset * c.temperature).exp().sum(),
    "weight decay": lambda c: lambda r, f: plain(r, f) + c.head.weight.square().sum(),
    "a term that the critic has saved": lambda c: lambda r, f: plain(r, f) + c.decay,
    "a term of its last samples": lambda c: lambda r, f: plain(r, f) * c.size,
    "no output at all": lambda c: lambda r, f: c.offset.square().sum(),
    "nothing": lambda c: lambda r, f: torch.zeros((), dtype=torch.float64),
}


@pytest.fixture
def samples(generator):
    return torch.randn(2, 5, 6, generator=generator).double()


@pytest.mark.parametrize("method", [*METHODS, "auto"])
@pytest.mark.parametrize("penalties", [{"r1": 2.0, "r2": 1.0}, {"r1": 2.0}, {"wgan_gp": 3.0}])
@pytest.mark.parametrize("kind", LOSSES)
def test_all_that_the_loss_depends_on_has_its_gradient(kind, penalties, method, samples):
    critic, (real, fake) = Critic().double(), samples
    other = copy.deepcopy(critic)
    seed = torch.randint(2**31, ()).item()
    torch.manual_seed(seed)
    truth = gradients(other, textbook(other, real, fake, None, LOSSES[kind](other), **penalties))
    given = [WGANGP(3.0)] if "wgan_gp" in penalties else [R1(2.0), R2(1.0)][: len(penalties)]
    torch.manual_seed(seed)
    total = fastgan.critic_loss(critic, real, fake, loss=LOSSES[kind](critic), penalties=given, method=method)
    assert total.method == ("one_pass" if method == "auto" else method)
    assert relative_error(gradients(critic, total), truth) <= 1e-10


class Alternating(nn.Module):
    """Its first call and its second go through different layers."""

    def __init__(self) -> None:
        super().__init__()
        self.layers, self.calls = nn.ModuleList([nn.Linear(6, 1), nn.Linear(6, 1)]), 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return F.leaky_relu(self.layers[(self.calls + 1) % 2](x), 0.2)


@pytest.mark.parametrize("penalty", [R1(2.0), R2(2.0)])
@pytest.mark.parametrize("side", [0, 1])
def test_no_gradient_comes_from_outputs_that_the_loss_leaves_out(samples, side, penalty):
    """Zeros instead of None would let weight decay and momentum move what has no part in the loss."""
    critic, (real, fake) = Alternating().double(), samples
    other = copy.deepcopy(critic)
    truth = gradients(
        other, textbook(other, real, fake, None, lambda *out: out[side].mean(), **{penalty.name: penalty.gamma})
    )
    total = fastgan.critic_loss(
        critic, real, fake, loss=lambda *out: out[side].mean(), penalties=[penalty], method="one_pass"
    )
    found = gradients(critic, total)
    assert relative_error(found, truth) <= 1e-10
    penalised = 0 if penalty.name == "r1" else 1
    for i, layer in enumerate(critic.layers):
        assert (layer.weight.grad is None) == (i not in (side, penalised))
        assert (layer.bias.grad is None) == (i != side)


def test_the_gradient_is_scaled_and_added_up(samples):
    critic, (real, fake) = Critic().double(), samples
    loss = LOSSES["a temperature"](critic)
    total = fastgan.critic_loss(critic, real, fake, loss=loss, penalties=(R1(1.0), R2(1.0)), method="one_pass")
    total.backward(retain_graph=True)
    once = critic.temperature.grad.clone()
    (3 * total).backward()
    torch.testing.assert_close(critic.temperature.grad, 4 * once)


@pytest.mark.filterwarnings("ignore:fastgan.critic_loss falls back")
def test_a_loss_of_activations_differentiates_twice(samples):
    """One pass keeps no activations: refused in the forward pass, where there still is a choice."""
    critic, (real, fake) = Critic().double(), samples

    def loss_of(c):
        return lambda r, f: plain(r, f) + c.features.square().mean()

    one, other = copy.deepcopy(critic), copy.deepcopy(critic)
    with pytest.raises(fastgan.NotAffineError, match="the loss depends on activations of the critic"):
        fastgan.critic_loss(one, real, fake, loss=loss_of(one), penalties=(R1(1.0), R2(1.0)), method="one_pass")
    for _ in range(3):
        truth = gradients(other, textbook(other, real, fake, None, loss_of(other), r1=1.0, r2=1.0))
        total = fastgan.critic_loss(critic, real, fake, loss=loss_of(critic), penalties=(R1(1.0), R2(1.0)))
        assert "the loss depends on activations" in total.reason
        assert relative_error(gradients(critic, total), truth) <= 1e-10


@pytest.mark.filterwarnings("ignore:fastgan.critic_loss falls back")
def test_what_fails_twice_is_not_tried_a_third_time(samples):
    critic, (real, fake) = Critic().double(), samples
    calls = itertools.count()  # which a trial cannot put back
    critic.register_forward_pre_hook(lambda *_: None if next(calls) >= 0 else ())
    runs = []
    for _ in range(4):
        before = next(calls)
        fastgan.critic_loss(
            critic, real, fake, loss=lambda r, f: critic.features.mean() + r.mean(), penalties=(R1(1.0), R2(1.0))
        )
        runs.append(next(calls) - before - 1)
    assert runs == [1 + 2 + 2, 1 + 2 + 2, 2, 2]


class Tempered(Loss):
    """A generator's objective with a parameter of its own."""

    name = "tempered"

    def __init__(self) -> None:
        self.temperature = torch.tensor(1.3, dtype=torch.float64, requires_grad=True)

    def critic(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        return plain(real_logits, fake_logits)

    def generator(self, fake_logits: Tensor, real_logits: Tensor | None = None) -> Tensor:
        return F.softplus(-fake_logits * self.temperature).mean()


def test_the_generator_s_objective_too(samples):
    critic, (real, noise) = Critic().double(), samples
    generator = nn.Linear(6, 6).double()
    loss = Tempered()
    total = fastgan.critic_loss(critic.eval(), real, generator(noise), loss=loss, penalties=(R2(1.0),))
    fastgan.generator_loss_from(total).backward()
    found = loss.temperature.grad.clone(), generator.weight.grad.clone()
    loss.temperature.grad = generator.weight.grad = None
    loss.generator(critic(generator(noise))).backward()
    torch.testing.assert_close(found, (loss.temperature.grad, generator.weight.grad))


@pytest.mark.parametrize("method", METHODS)
def test_a_frozen_critic_has_nothing_to_learn(method, samples):
    """`.backward()` is no error, as by hand, where the penalty is a function of the points."""
    critic = Critic().double().requires_grad_(False)
    fastgan.critic_loss(critic, *samples, penalties=(R1(1.0), R2(1.0)), method=method).backward()
    assert all(p.grad is None for p in critic.parameters())
