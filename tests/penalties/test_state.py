"""State that a critic changes: a trial run puts it back, and a run that is given up starts from where it was."""

import copy
import functools
import gc
import itertools
import warnings
import weakref

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations

import fastgan
from fastgan.penalties import R1, R2, WGANGP
from tests.penalties.common import plain
from tests.penalties.critics import gradients, relative_error, textbook

pytestmark = pytest.mark.usefixtures("one_thread")


class Stateful(nn.Module):
    """Running statistics, a power iteration, a tensor and a number that forward changes, and random numbers."""

    def __init__(self, normalise: bool = True) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(6, 8), parametrizations.spectral_norm(nn.Linear(8, 8))
        self.norm = nn.BatchNorm1d(8) if normalise else nn.Identity()
        self.old = nn.utils.spectral_norm(nn.Linear(8, 8))
        self.head = nn.Linear(8, 1)
        self.register_buffer("level", torch.zeros(8))
        self.memory, self.calls = torch.zeros(8, dtype=torch.float64), 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        self.last = x.detach()
        h = F.leaky_relu(self.second(self.norm(self.first(x))), 0.2)
        self.level.mul_(0.9).add_(h.detach().mean(0), alpha=0.1)
        self.memory.lerp_(h.detach().mean(0), 0.1)
        return self.head(F.leaky_relu(self.old(h + self.memory + self.level), 0.2) + 0.01 * torch.randn_like(h))


class Caller:
    """An object that is called, and one whose method is."""

    def __init__(self, critic: nn.Module) -> None:
        self.critic = critic

    def __call__(self, x: Tensor) -> Tensor:
        return self.critic(x)

    def judge(self, x: Tensor) -> Tensor:
        return self.critic(x)


class Slotted:
    """The same without attributes of its own, which cannot be referred to weakly either."""

    __slots__ = ("critic",)

    def __init__(self, critic: nn.Module) -> None:
        self.critic = critic

    def __call__(self, x: Tensor) -> Tensor:
        return self.critic(x)


WAYS = {
    "object with slots": lambda critic: lambda: Slotted(critic),
    "module": lambda critic: lambda: critic,
    "a new lambda each step": lambda critic: lambda: lambda x: critic(x),
    "partial": lambda critic: lambda: functools.partial(critic),
    "bound forward": lambda critic: lambda: critic.forward,
    "object": lambda critic: lambda: Caller(critic),
    "method of an object": lambda critic: lambda: Caller(critic).judge,
    "lambda around a method": lambda critic: (lambda caller: lambda: lambda x: caller.judge(x))(Caller(critic)),
    "in a list": lambda critic: (lambda parts: lambda: lambda x: parts[0](x))([critic]),
}


def state(critic: Stateful) -> dict[str, Tensor]:
    return {**dict(critic.named_buffers()), "memory": critic.memory, "calls": torch.tensor(critic.calls)}


@pytest.mark.parametrize("normalise", [True, False])
@pytest.mark.parametrize("way", WAYS)
def test_steps_are_those_of_the_textbook(way, normalise, generator):
    """Gradients, buffers, attributes and random numbers of three steps, however the critic is handed over."""
    critic = Stateful(normalise).double()
    other, make = copy.deepcopy(critic), WAYS[way](critic)
    for step in range(3):
        real, fake = torch.randn(2, 5, 6, generator=generator).double()
        torch.manual_seed(step)
        truth = gradients(other, textbook(other, real, fake, None, plain, r1=2.0, r2=1.0))
        torch.manual_seed(step)
        total = fastgan.critic_loss(make(), real, fake, loss=plain, penalties=(R1(2.0), R2(1.0)))
        assert total.method == ("double_backward" if normalise else "one_pass")
        assert relative_error(gradients(critic, total), truth) <= 1e-9
        for (name, found), expected in zip(state(critic).items(), state(other).values(), strict=True):
            torch.testing.assert_close(found, expected, msg=lambda m, name=name: f"{name}: {m}")


@pytest.mark.parametrize("way", WAYS)
def test_one_trial_for_all_lambdas(way):
    critic = Stateful(normalise=False).double()
    runs, make, x = itertools.count(), WAYS[way](critic), torch.randn(5, 6).double()  # which a trial cannot put back
    critic.first.register_forward_pre_hook(lambda *_: None if next(runs) >= 0 else ())
    for _ in range(4):
        fastgan.critic_loss(make(), x, x, penalties=(R1(1.0), R2(1.0)))
    assert next(runs) == 1 + 4 * 2


@pytest.mark.parametrize("normalise", [True, False])
@pytest.mark.parametrize("way", WAYS)
def test_explain_changes_nothing(way, normalise):
    critic = Stateful(normalise).double()
    before, attributes = copy.deepcopy(state(critic)), set(vars(critic))
    random = torch.get_rng_state()
    fastgan.explain(WAYS[way](critic)(), torch.randn(5, 6, generator=torch.Generator()).double())
    for (name, found), expected in zip(state(critic).items(), before.values(), strict=True):
        assert torch.equal(found, expected), name
    assert set(vars(critic)) == attributes
    assert torch.equal(torch.get_rng_state(), random)


class ZeroSecondDerivative(nn.Module):
    """abs gives autograd a zero without memory, which the multiple of `add_` then multiplies."""

    def __init__(self) -> None:
        super().__init__()
        self.added, self.last = nn.Parameter(torch.randn(6)), nn.Linear(6, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = F.hardshrink(x, 0.1)  # not known to be affine, so that it is tried
        return self.last(h.add_(self.added, alpha=2.0).abs_()).squeeze(1)


def test_a_zero_without_memory():
    critic = ZeroSecondDerivative().double()
    real, fake = torch.randn(2, 5, 6).double()
    truth = gradients(critic, textbook(critic, real, fake, None, plain, r1=2.0))
    total = fastgan.critic_loss(critic, real, fake, loss=plain, penalties=(R1(2.0),))
    assert total.method == "double_backward"
    assert relative_error(gradients(critic, total), truth) <= 1e-9


def test_explain_leaves_the_data_alone():
    """Even where the critic overwrites its input past autograd."""
    x = torch.randn(4, 6)
    before = x.clone()
    with pytest.raises(ZeroDivisionError):
        fastgan.explain(lambda x: x.detach().zero_().sum() / 0 if 1 // 0 else x, x)
    head = nn.Linear(6, 1)
    fastgan.explain(lambda x: head(x) + 0 * x.detach().mul_(2).sum(), x)
    assert torch.equal(x, before)


class Turns(nn.Module):
    """Affine until it is told otherwise."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.smooth = Stateful(normalise=False), False

    def forward(self, x: Tensor) -> Tensor:
        y = self.inner(x)
        return y.tanh() if self.smooth else y


def test_a_fallback_starts_from_where_the_attempt_began(generator):
    """Two runs count, not three; and the random numbers are those of the two."""
    critic = Turns().double()
    other = copy.deepcopy(critic)
    real, fake = torch.randn(2, 5, 6, generator=generator).double()
    fastgan.critic_loss(critic, real, fake, loss=plain, penalties=(R1(2.0), R2(1.0)))
    other.inner.load_state_dict(critic.inner.state_dict())
    other.inner.memory, other.inner.calls = critic.inner.memory.clone(), critic.inner.calls
    critic.smooth = other.smooth = True
    torch.manual_seed(5)
    truth = gradients(other, textbook(other, real, fake, None, plain, r1=2.0, r2=1.0))
    torch.manual_seed(5)
    with pytest.warns(UserWarning, match="falls back to double backward: aten.tanh"):
        total = fastgan.critic_loss(critic, real, fake, loss=plain, penalties=(R1(2.0), R2(1.0)))
    assert relative_error(gradients(critic, total), truth) <= 1e-9
    for (name, found), expected in zip(state(critic.inner).items(), state(other.inner).values(), strict=True):
        torch.testing.assert_close(found, expected, msg=lambda m, name=name: f"{name}: {m}")


def test_a_fallback_draws_the_same_points(generator):
    """A critic that is affine on the samples and not between them: points are drawn in the attempt, and once more."""
    layers = nn.Sequential(nn.Linear(6, 8), nn.LeakyReLU(0.2), nn.Linear(8, 1)).double()
    real, fake = torch.randn(2, 5, 6, generator=generator).double()

    def critic(x: Tensor) -> Tensor:
        return layers(x) if any(torch.equal(x, at) for at in (real, fake)) else layers(x.tanh())

    torch.manual_seed(5)
    truth = gradients(layers, textbook(critic, real, fake, None, plain, wgan_gp=3.0))
    torch.manual_seed(5)
    with pytest.warns(UserWarning, match="falls back to double backward: aten.tanh"):
        total = fastgan.critic_loss(critic, real, fake, loss=plain, penalties=(WGANGP(3.0),))
    assert relative_error(gradients(layers, total), truth) <= 1e-9


def test_verdicts_do_not_keep_a_critic_alive():
    def steps() -> "weakref.ref[nn.Module]":
        critic, x = Stateful().double(), torch.randn(5, 6).double()
        for judge in (critic, lambda x: critic(x), critic.forward):
            fastgan.critic_loss(judge, x, x)
        return weakref.ref(critic)

    alive = steps()
    gc.collect()
    assert alive() is None


# --- changes between the forward pass and backward --------------------------------------------------------------------


class Changed(nn.Module):
    """Weights and constants of every origin."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.head, self.embed = nn.Linear(6, 8), nn.Linear(8, 1), nn.Embedding(5, 8)
        self.register_buffer("scale", torch.rand(8) + 0.5)
        self.register_buffer("shift", torch.rand(8))
        self.frozen = nn.Parameter(torch.randn(8, 8), requires_grad=False)
        self.matrix = nn.Parameter(torch.randn(8, 8), requires_grad=False)
        self.inside, self.outside = torch.rand(8).double() + 0.5, torch.rand(8).double()

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        h = F.leaky_relu(self.first(x) * self.scale + self.shift, 0.2) + self.outside
        h = F.leaky_relu(h @ (self.frozen * self.inside) @ self.matrix, 0.2)
        return self.head(h * self.embed(y))


CHANGES = {
    "nothing": lambda c, y: None,
    "a parameter": lambda c, y: c.first.weight.mul_(1.1),
    "a frozen weight": lambda c, y: c.matrix.mul_(1.1),
    "what a frozen weight was made of": lambda c, y: c.frozen.mul_(1.1),
    "the labels": lambda c, y: y.fill_(1),
    "a factor that is a buffer": lambda c, y: c.scale.mul_(1.1),
    "a factor of it": lambda c, y: c.inside.mul_(1.1),
    "an addend that is a buffer": lambda c, y: c.shift.mul_(1.1),
    "an addend": lambda c, y: c.outside.mul_(1.1),
}
REFUSED = ("a parameter", "a frozen weight", "the labels")
"""As by autograd, which has saved them; it refuses a changed factor as well, of which a copy is kept here."""


@pytest.mark.parametrize("method", ["one_pass", "auto"])
@pytest.mark.parametrize("kind", CHANGES)
def test_what_changes_before_backward_is_noticed_or_does_not_matter(kind, method, generator):
    """An error, or the gradient at the point where the forward pass was; never another."""
    critic = Changed().double()
    real, fake = torch.randn(2, 5, 6, generator=generator).double()
    labels = torch.randint(5, (5,), generator=generator)
    truth = gradients(critic, textbook(critic, real, fake, labels, plain, r1=2.0, r2=1.0))
    penalties = R1(2.0), R2(1.0)
    total = fastgan.critic_loss(critic, real, fake, loss=plain, penalties=penalties, labels=labels, method=method)
    with torch.no_grad():
        CHANGES[kind](critic, labels)
    if kind in REFUSED:
        with pytest.raises(RuntimeError, match=r"in ?place"):
            total.backward()
    else:
        assert relative_error(gradients(critic, total), truth) <= 1e-10


@pytest.mark.parametrize("how", ["counted", "parametrized"])
def test_a_normalised_weight_whose_vectors_change(how, generator):
    """Power iterations that overwrite u and v, of which autograd needs the old ones: an error, as in PyTorch."""

    class Power(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight, self.head = nn.Parameter(torch.randn(8, 6)), nn.Linear(8, 1)
            self.register_buffer("u", F.normalize(torch.randn(8), dim=0))

        def forward(self, x: Tensor) -> Tensor:
            with torch.no_grad():
                v = F.normalize(self.weight.t() @ self.u, dim=0)
                self.u.copy_(F.normalize(self.weight @ v, dim=0))
            u = self.u.clone() if how == "parametrized" else self.u
            return self.head(F.relu(F.linear(x, self.weight / (u @ self.weight @ v))))

    critic = Power().double()
    real, fake = torch.randn(2, 5, 6, generator=generator).double()
    other = copy.deepcopy(critic)

    def ours() -> dict[str, Tensor]:
        return gradients(critic, fastgan.critic_loss(critic, real, fake, loss=plain, penalties=(R1(2.0), R2(1.0))))

    def by_hand() -> dict[str, Tensor]:
        return gradients(other, textbook(other, real, fake, None, plain, r1=2.0, r2=1.0))

    if how == "counted":
        for run in (by_hand, ours):
            with pytest.raises(RuntimeError, match="modified by an inplace operation"):
                run()
    else:
        assert relative_error(ours(), by_hand()) <= 1e-10


def test_constants_of_inference_mode(generator):
    with torch.inference_mode():
        noise = torch.randn(8, generator=generator).double()
    first, head = nn.Linear(6, 8).double(), nn.Linear(8, 1).double()
    critic = nn.ModuleList([first, head])

    def run(x: Tensor) -> Tensor:
        return head(F.leaky_relu(first(x) + noise, 0.2))

    real, fake = torch.randn(2, 5, 6, generator=generator).double()
    truth = gradients(critic, textbook(run, real, fake, None, plain, r1=2.0, r2=1.0))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        total = fastgan.critic_loss(run, real, fake, loss=plain, penalties=(R1(2.0), R2(1.0)))
    assert total.method == "one_pass"
    assert relative_error(gradients(critic, total), truth) <= 1e-10
