"""State that is no tensor: what a trial run puts back, and what an attempt changes that the trial did not."""

import collections
import copy
import random
import types

import numpy
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import fastgan
from fastgan.penalties import R1, R2
from fastgan.penalties.state import SMALL

pytestmark = pytest.mark.usefixtures("one_thread")


def wasserstein(real: Tensor, fake: Tensor) -> Tensor:
    return fake.mean() - real.mean()


def step(critic, real: Tensor, fake: Tensor, loss=wasserstein, **settings):
    return fastgan.critic_loss(critic, real, fake, loss=loss, penalties=(R1(1.0), R2(1.0)), **settings)


@pytest.fixture
def samples(generator) -> Tensor:
    return torch.randn(2, 4, 6, generator=generator).double()


class Scaled(nn.Module):
    """Its output is multiplied by `factor(self)`."""

    def __init__(self, factor) -> None:
        super().__init__()
        self.first, self.head, self.factor = nn.Linear(6, 8).double(), nn.Linear(8, 1).double(), factor
        self.counts, self.nested, self.calls = {"n": 0}, {"of": [0]}, 0
        self.recent, self.seen = collections.deque(maxlen=3), set()
        self.own = types.SimpleNamespace(n=0)
        self.array = numpy.zeros(1)
        self.python, self.torch = random.Random(0), torch.Generator().manual_seed(0)
        self.numpy, self.old_numpy = numpy.random.default_rng(0), numpy.random.RandomState(0)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.leaky_relu(self.first(x), 0.2)) * self.factor(self)


def count_dict(c):
    c.counts["n"] += 1
    return c.counts["n"]


def count_nested(c):
    c.nested["of"][0] += 1
    return c.nested["of"][0]


def count_deque(c):
    c.recent.append(len(c.recent))
    return 1 + sum(c.recent)


def count_set(c):
    c.seen.add(len(c.seen))
    return len(c.seen)


def count_attribute(c):
    c.calls += 1
    return c.calls


def count_object(c):
    c.own.n += 1
    return c.own.n


def count_array(c):
    c.array += 1
    return float(c.array[0])


FACTORS = {
    "dict": count_dict,
    "nested": count_nested,
    "deque": count_deque,
    "set": count_set,
    "attribute": count_attribute,
    "object": count_object,
    "array": count_array,
    "random.Random": lambda c: c.python.random(),
    "torch.Generator": lambda c: torch.rand((), generator=c.torch).item(),
    "numpy.random.Generator": lambda c: c.numpy.random(),
    "numpy.random.RandomState": lambda c: c.old_numpy.rand(),
    "random": lambda c: random.random(),
    "numpy.random": lambda c: numpy.random.rand(),
}


class Trainer:
    def __init__(self, critic: nn.Module) -> None:
        self.critic, self.nets = critic, types.SimpleNamespace(critic=critic)

    def judge(self, x: Tensor) -> Tensor:
        return self.critic(x)

    def by_attribute(self):
        return lambda x: self.critic(x)

    def by_namespace(self):
        return lambda x: self.nets.critic(x)

    def by_method(self):
        return lambda x: self.judge(x)


WAYS = {
    "module": lambda c: c,
    "lambda": lambda c: lambda x: c(x),
    "attribute of an object": lambda c: Trainer(c).by_attribute(),
    "namespace in an object": lambda c: Trainer(c).by_namespace(),
    "method of an object": lambda c: Trainer(c).by_method(),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", FACTORS)
def test_the_first_step_sees_no_trial_run(kind, way, samples):
    critic = Scaled(FACTORS[kind])
    other, (real, fake) = copy.deepcopy(critic), samples
    for _ in range(2):
        states = random.getstate(), numpy.random.get_state()
        expected = wasserstein(other(real), other(fake))
        random.setstate(states[0])
        numpy.random.set_state(states[1])
        total = step(WAYS[way](critic), real, fake)
        assert total.method == "one_pass"
        torch.testing.assert_close(total.loss, expected.detach())


def test_a_counter_in_a_closure(samples):
    real, fake = samples
    layer, n = nn.Linear(6, 1).double(), 0

    def critic(x: Tensor) -> Tensor:
        nonlocal n
        n += 1
        return layer(x) * n

    total = step(critic, real, fake)
    torch.testing.assert_close(total.loss, (2 * layer(fake) - layer(real)).mean().detach())
    assert n == 2


SEEN: list[Tensor] = []


class Features:
    def __init__(self) -> None:
        self.seen: list[Tensor] = []

    def hook(self, module: nn.Module, inputs: tuple, output: Tensor) -> None:
        self.seen.append(output.detach())


@pytest.mark.parametrize("kind", ["closure", "global", "method"])
def test_lists_that_hooks_append_to(kind, samples):
    """Features of real and then of fake samples, for a loss that compares them."""
    features, (real, fake) = Features(), samples
    critic = nn.Sequential(nn.Linear(6, 8), nn.LeakyReLU(0.2), nn.Linear(8, 1)).double()
    seen: list[Tensor] = {"global": SEEN, "method": features.seen}.get(kind, [])
    hooks = {
        "closure": lambda module, inputs, output: seen.append(output.detach()),
        "global": lambda module, inputs, output: SEEN.append(output.detach()),
        "method": features.hook,
    }
    critic[1].register_forward_hook(hooks[kind])

    def loss(of_real: Tensor, of_fake: Tensor) -> Tensor:
        first, second = seen
        seen.clear()
        return wasserstein(of_real, of_fake) * (first - second).norm()

    expected = loss(critic(real), critic(fake)).detach()
    for _ in range(2):
        torch.testing.assert_close(step(critic, real, fake, loss=loss).loss, expected)


def test_a_lazy_critic_draws_as_in_pytorch(samples):
    """Its first run makes the parameters and then the masks of dropout, by the same random numbers."""

    def build() -> nn.Module:
        torch.manual_seed(1)
        lazy = nn.LazyLinear(8, dtype=torch.float64), nn.Dropout(), nn.LazyBatchNorm1d(dtype=torch.float64).eval()
        return nn.Sequential(*lazy, nn.LeakyReLU(0.2), nn.LazyLinear(8, dtype=torch.float64), nn.Dropout(), mean)

    mean, (real, fake) = nn.Linear(8, 1).double(), samples
    other, critic = build(), build()
    fastgan.explain(critic, real)
    assert isinstance(critic[0].weight, nn.parameter.UninitializedParameter)
    torch.manual_seed(2)
    expected = [wasserstein(other(real), other(fake)).item() for _ in range(2)]
    torch.manual_seed(2)
    assert [step(critic, real, fake).loss.item() for _ in range(2)] == pytest.approx(expected, rel=1e-12)
    assert torch.equal(critic[4].weight, other[4].weight)


# --- an attempt that fails --------------------------------------------------------------------------------------------


class Late(nn.Module):
    """Told so, it changes what it has never changed before, and is not affine after that."""

    def __init__(self, change, size: int = 1) -> None:
        super().__init__()
        self.first, self.head, self.change, self.late = (
            nn.Linear(6, 8).double(),
            nn.Linear(8, 1).double(),
            change,
            False,
        )
        self.register_buffer("n", torch.zeros(size, dtype=torch.float64))
        self.level, self.counts = torch.zeros(size, dtype=torch.float64), [0]
        self.python = random.Random(0)

    def forward(self, x: Tensor) -> Tensor:
        h = F.leaky_relu(self.first(x), 0.2)
        return self.head(self.change(self) * torch.tanh(h) if self.late else h)


def assign(c):
    c.n = c.n + 1
    return c.n[0].item()


def overwrite(c):
    c.n += 1
    return c.n[0].item()


def overwrite_attribute(c):
    c.level += 1
    return c.level[0].item()


def count_list(c):
    c.counts[0] += 1
    return c.counts[0]


def set_attribute(c):
    c.extra = getattr(c, "extra", 0) + 1
    return c.extra


CHANGES = {
    "buffer, assigned": assign,
    "buffer, in place": overwrite,
    "tensor, in place": overwrite_attribute,
    "list": count_list,
    "new attribute": set_attribute,
    "generator": lambda c: c.python.random(),
}


@pytest.mark.filterwarnings("ignore:fastgan.critic_loss falls back")
@pytest.mark.parametrize("kind", CHANGES)
def test_a_fallback_puts_back_what_the_trial_did_not_change(kind, samples):
    critic, (real, fake) = Late(CHANGES[kind]), samples
    assert step(critic, real, fake).method == "one_pass"
    critic.late = True
    other = copy.deepcopy(critic)
    for _ in range(2):
        expected = wasserstein(other(real), other(fake)).detach()
        total = step(critic, real, fake)
        assert total.method == "double_backward"
        torch.testing.assert_close(total.loss, expected)
    assert torch.equal(critic.n, other.n)


def test_what_cannot_be_put_back_is_an_error(samples):
    """A tensor of which no copy is made before it is known that the critic changes it."""
    critic, (real, fake) = Late(overwrite, size=SMALL // 8 + 1), samples
    step(critic, real, fake)
    critic.late = True
    with pytest.raises(RuntimeError, match=r"critic_loss: the critic .* tensor of shape \[131073\] in place"):
        step(critic, real, fake)


def test_large_state_that_the_trial_has_seen_is_put_back(samples):
    class Large(Late):
        def forward(self, x: Tensor) -> Tensor:
            self.n += 1
            h = F.leaky_relu(self.first(x), 0.2) * self.n[0].item()
            return self.head(torch.tanh(h) if self.late else h)

    critic, (real, fake) = Large(None, size=SMALL // 8 + 1), samples
    step(critic, real, fake)
    critic.late = True
    with pytest.warns(UserWarning, match="falls back"):
        step(critic, real, fake)
    assert critic.n[0] == 4
