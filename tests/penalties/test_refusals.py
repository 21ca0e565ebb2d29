"""Critics that one pass cannot differentiate: refused by name, and right by double backward; and near misses."""

import copy
import re
import warnings

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations
from torch.utils.checkpoint import checkpoint

import fastgan
from fastgan import NotAffineError
from fastgan.penalties import R1, R2, WGANGP
from tests.penalties.common import ALL, assert_same, plain
from tests.penalties.critics import gradients, relative_error, textbook
from tests.penalties.ineligible import CONSTANTS, INELIGIBLE, SHAPE, Around, Reversal


def loss(real: Tensor, fake: Tensor) -> Tensor:
    return F.softplus(-real).mean() + F.softplus(fake).mean()


class Switch(nn.Module):
    on = False

    def forward(self, h):
        return h.tanh() if self.on else h


def expected_gradients(critic, real, fake, **penalties):
    critic = copy.deepcopy(critic)
    return gradients(critic, textbook(critic, real, fake, None, loss, **penalties))


@pytest.fixture
def samples():
    return torch.randn(4, *SHAPE, dtype=torch.float64), torch.randn(4, *SHAPE, dtype=torch.float64)


@pytest.mark.parametrize("kind", INELIGIBLE)
def test_refused_by_name_and_right_by_double_backward(kind, samples):
    make, message = INELIGIBLE[kind]
    critic = make().double()
    real, fake = samples
    before = {name: b.clone() for name, b in critic.named_buffers()}
    with pytest.raises(NotAffineError, match=message):
        fastgan.critic_loss(copy.deepcopy(critic), real, fake, method="one_pass")
    verdict = fastgan.explain(critic, real)
    assert not verdict.eligible
    for name, buffer in critic.named_buffers():
        assert torch.equal(buffer, before[name]), f"explain changed {name}"
    seed = torch.randint(2**31, ()).item()
    torch.manual_seed(seed)
    truth = expected_gradients(critic, real, fake, r1=4.0, r2=1.0, wgan_gp=2.0)
    torch.manual_seed(seed)
    found = fastgan.critic_loss(critic, real, fake, loss=loss, penalties=(R1(4.0), R2(1.0), WGANGP(2.0)))
    assert found.method == "double_backward"
    assert found.reason == verdict.reason
    assert relative_error(gradients(critic, found), truth) <= 1e-10


@pytest.mark.parametrize("kind", CONSTANTS)
def test_what_autograd_takes_for_constant_is_constant(kind, samples):
    critic = Around(CONSTANTS[kind]).double()
    real, fake = samples
    truth = expected_gradients(critic, real, fake, r1=4.0, r2=1.0)
    found = fastgan.critic_loss(critic, real, fake, loss=loss, penalties=(R1(4.0), R2(1.0)), method="one_pass")
    assert relative_error(gradients(critic, found), truth) <= 1e-10


def test_a_critic_that_changes_is_looked_at_again(samples):
    """Flags, hooks, replaced parameters and modules have their effect at once; a fallback says so."""
    critic = Around(nn.Identity()).double()
    critic.strength = 0.0
    real, fake = samples

    def check(method: str) -> None:
        truth = expected_gradients(critic, real, fake, r1=4.0)
        found = fastgan.critic_loss(critic, real, fake, loss=loss, penalties=(R1(4.0),))
        assert found.method == method
        assert relative_error(gradients(critic, found), truth) <= 1e-10

    check("one_pass")
    critic.middle = nn.LeakyReLU(0.3).double()
    check("one_pass")
    critic.middle.negative_slope = 0.7
    check("one_pass")
    critic.head.weight = nn.Parameter(torch.randn_like(critic.head.weight))
    check("one_pass")
    handle = critic.stem.register_forward_hook(lambda module, args, output: output * 3)
    check("one_pass")
    handle.remove()
    critic.middle = nn.BatchNorm2d(4).double().eval()
    check("one_pass")
    critic.train()
    check("double_backward")
    critic.eval()
    check("one_pass")
    critic.middle = nn.Tanh()
    check("double_backward")
    critic.middle = Switch()
    check("one_pass")
    critic.middle.on = True
    with pytest.warns(UserWarning, match="tanh"):
        check("double_backward")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check("double_backward")


def test_a_penalty_on_a_critic_that_ignores_its_input_is_an_error(samples):
    class Ignores(nn.Module):
        def __init__(self):
            super().__init__()
            self.c = nn.Parameter(torch.ones(1, dtype=torch.float64))

        def forward(self, x):
            return self.c.expand(len(x), 1)

    with pytest.raises(RuntimeError, match="not have been used"):
        fastgan.critic_loss(Ignores(), *samples)
    with pytest.raises(NotAffineError, match="does not depend on the input"):
        fastgan.critic_loss(Ignores(), *samples, method="one_pass")


class ReversesInside(nn.Module):
    def forward(self, h):
        return Reversal.apply(h)


class AddsToAView(nn.Module):
    def forward(self, h):
        view = h[:, :2]
        view += 1
        return h


@pytest.mark.parametrize("kind", [ReversesInside, AddsToAView])
def test_the_module_at_fault_is_named(kind):
    """Not the next one, which meets the consequences."""
    critic = nn.Sequential(nn.Conv2d(3, 4, 3), kind(), fastgan.nn.MinibatchStdDev(2), nn.Flatten(), nn.LazyLinear(1))
    critic(torch.randn(4, *SHAPE))
    reasons = fastgan.explain(critic, torch.randn(4, *SHAPE)).reasons
    assert f"(in 1: {kind.__name__})" in reasons[0], reasons


def test_a_batch_without_samples_is_pytorch_s_affair():
    critic = nn.Linear(6, 1)
    empty = torch.zeros(0, 6)
    found = fastgan.critic_loss(critic, empty, empty, loss=lambda r, f: r.sum() + f.sum(), penalties=(R1(1.0),))
    assert (found.method, found.reason) == ("double_backward", "the batch has no samples")
    found.backward()
    assert critic.weight.grad.shape == (1, 6)


@pytest.mark.parametrize("end", [lambda y: y.squeeze(), lambda y: y.view(()), lambda y: y[0, 0]])
def test_a_batch_of_one_may_lose_its_dimension(end):
    critic = nn.Sequential(nn.Linear(6, 8), nn.LeakyReLU(0.2), nn.Linear(8, 1)).double()
    real, fake = torch.randn(2, 1, 6).double()
    other = copy.deepcopy(critic)
    truth = gradients(other, textbook(lambda x: end(other(x)), real, fake, None, loss, r1=2.0, r2=1.0))
    found = fastgan.critic_loss(lambda x: end(critic(x)), real, fake, loss=loss, penalties=(R1(2.0), R2(1.0)))
    assert relative_error(gradients(critic, found), truth) <= 1e-10


def test_a_critic_that_is_wrong_says_so_itself(samples):
    """Neither its own error nor that of a rule is taken for a reason to differentiate twice."""
    critic = nn.Sequential(nn.Flatten(), nn.Linear(7, 1)).double()
    for call in (lambda: fastgan.critic_loss(critic, *samples), lambda: fastgan.explain(critic, samples[0])):
        with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
            call()


def test_errors_speak_as_the_function_that_was_called(samples):
    critic = nn.Linear(3, 1)
    for call in (
        lambda: fastgan.gradient_penalty(critic, torch.zeros(3, 4, dtype=torch.int64), R1(1.0)),
        lambda: fastgan.gradient_penalty(critic, samples[0], R1(1.0), method="best"),
    ):
        with pytest.raises((TypeError, ValueError), match=r"^gradient_penalty: (x|method) is"):
            call()


def test_torchscript(samples):
    """Its first runs show their operations, later ones may not: right in either case, with a true reason."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        script = torch.jit.script(nn.Sequential(nn.ReLU(), nn.AvgPool2d(3, 1, 1)))
    critic = Around(lambda h: script(h)).double()
    truth = gradients(critic, textbook(critic, *samples, None, loss, r1=4.0, r2=1.0))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(4):
            found = fastgan.critic_loss(critic, *samples, loss=loss, penalties=(R1(4.0), R2(1.0)))
            assert found.reason is None or "does not see" in found.reason or "unknown derivative" in found.reason
            assert relative_error(gradients(critic, found), truth) <= 1e-10


class Checkpointed(nn.Module):
    """Weights that are computed inside of a region which activation checkpointing computes again."""

    def __init__(self, normalise) -> None:
        super().__init__()
        self.first, self.second = normalise(nn.Linear(6, 8)), normalise(nn.Linear(8, 8))
        self.head = nn.Linear(8, 1)

    def inside(self, x: Tensor) -> Tensor:
        return F.leaky_relu(self.second(F.leaky_relu(self.first(x), 0.2)), 0.2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(checkpoint(self.inside, x * 1, use_reentrant=False))


@pytest.mark.parametrize(
    "normalise", [lambda m: m, parametrizations.weight_norm, parametrizations.spectral_norm, fastgan.nn.spectral_norm]
)
def test_weights_of_a_checkpointed_region(normalise, generator):
    critic = Checkpointed(normalise).double()
    other = copy.deepcopy(critic)
    other.forward = lambda x: other.head(other.inside(x))
    real, fake = torch.randn(2, 5, 6, generator=generator).double()
    truth = gradients(other, textbook(other, real, fake, None, loss, r1=2.0, r2=1.0))
    found = fastgan.critic_loss(critic, real, fake, loss=loss, penalties=(R1(2.0), R2(1.0)))
    assert found.method == "one_pass"
    assert relative_error(gradients(critic, found), truth) <= 1e-10


def test_what_is_not_penalised_needs_no_verdict():
    """One pass for the fakes, though with a batch of the reals' size the critic would mix its samples."""
    layers = nn.Sequential(nn.Linear(6, 8), nn.LeakyReLU(0.2), nn.Linear(8, 1)).double()

    def critic(x: Tensor) -> Tensor:
        return layers(x.flip(0) if len(x) == 3 else x)

    real, fake = torch.randn(3, 6).double(), torch.randn(4, 6).double()
    assert fastgan.critic_loss(critic, real, fake, loss=loss, penalties=(R2(1.0),)).method == "one_pass"
    assert fastgan.critic_loss(critic, real, fake, loss=loss, penalties=(R1(1.0),)).method == "double_backward"


class Noises(nn.Module):
    """The mean over five constants, against which a batch of one broadcasts."""

    def __init__(self, combine) -> None:
        super().__init__()
        self.register_buffer("noise", torch.randn(5, 3, 6, 6).abs() + 1)
        self.stem, self.head, self.combine = nn.Conv2d(3, 4, 3), nn.Linear(64, 1), combine

    def forward(self, x: Tensor) -> Tensor:
        h = F.leaky_relu(self.stem(self.combine(x, self.noise)), 0.2)
        return self.head(h.flatten(1)).view(1, 5).mean(1)


@pytest.mark.parametrize(
    "combine",
    [
        lambda x, noise: x + noise,
        lambda x, noise: noise - x,
        lambda x, noise: x * noise,
        lambda x, noise: x / noise,
        lambda x, noise: torch.maximum(x, noise),
        lambda x, noise: torch.where(noise > 1.5, x, noise),
        lambda x, noise: x.expand(5, -1, -1, -1) + noise,
        lambda x, noise: x.repeat(5, 1, 1, 1) + noise,
        lambda x, noise: torch.cat([x + n for n in noise]),
    ],
)
def test_a_batch_of_one_that_broadcasts(combine, generator):
    critic = Noises(combine).double()
    real, fake = torch.randn(2, 1, *SHAPE, generator=generator, dtype=torch.float64)
    truth = gradients(critic, textbook(critic, real, fake, None, loss, r1=4.0, r2=1.0))
    assert fastgan.explain(critic, real).eligible is False
    total = fastgan.critic_loss(critic, real, fake, loss=loss, penalties=(R1(4.0), R2(1.0)))
    assert relative_error(gradients(critic, total), truth) <= 1e-10


# --- memory that is not the critic's own ------------------------------------------------------------------------------


class Conditioned(nn.Module):
    """Multiplies by a function of what it is given beside the samples."""

    def __init__(self, numbers: int) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(6, 8), nn.Linear(8, 1)
        self.embed = nn.Sequential(nn.Linear(numbers, 8), nn.Tanh(), nn.Linear(8, 8))

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return self.b(F.leaky_relu(self.a(x), 0.2) * self.embed(y))


@pytest.mark.parametrize("where", ["beside the samples", "the samples", "every second column"])
def test_labels_that_lie_in_the_memory_of_the_samples(where, generator):
    table, fake = (torch.randn(5, n, generator=generator, dtype=torch.float64) for n in (12, 6))
    real, labels = {
        "beside the samples": (table[:, :6], table[:, 6:]),
        "the samples": (table[:, :6], table[:, :6]),
        "every second column": (table[:, ::2], table[:, 1::2]),
    }[where]
    critic = Conditioned(6).double()
    truth = gradients(critic, textbook(critic, real, fake, labels, loss, r1=4.0, r2=1.0))
    total = fastgan.critic_loss(
        critic, real, fake, labels=labels, loss=loss, penalties=(R1(4.0), R2(1.0)), method="one_pass"
    )
    assert relative_error(gradients(critic, total), truth) <= 1e-10


class Recurrent(nn.Module):
    """Keeps an activation with its graph, which the next call uses as a constant or makes a weight of."""

    def __init__(self, use) -> None:
        super().__init__()
        self.a, self.b, self.use, self.previous = nn.Linear(6, 8), nn.Linear(8, 1), use, None

    def forward(self, x: Tensor) -> Tensor:
        h = self.a(x)
        previous, self.previous = self.previous, h
        return self.b(F.leaky_relu(h if previous is None else self.use(h, previous), 0.2))


@pytest.mark.parametrize("penalties", [{"r1": 4.0}, {"r2": 1.0}, {"r1": 4.0, "r2": 1.0}, {"wgan_gp": 2.0}])
@pytest.mark.parametrize(
    "use", [lambda h, p: h + p, lambda h, p: h * p.mean(0), lambda h, p: torch.cat([h[:, :4], p[:, :4]], 1)]
)
def test_an_activation_of_an_earlier_call(use, penalties, generator):
    critic = Recurrent(use).double()
    real, fake = torch.randn(2, 5, 6, generator=generator, dtype=torch.float64)
    other = copy.deepcopy(critic)
    torch.manual_seed(1)
    truth = gradients(other, textbook(other, real, fake, None, loss, **penalties))
    kinds = {"r1": R1, "r2": R2, "wgan_gp": WGANGP}
    given = tuple(kinds[name](weight) for name, weight in penalties.items())
    torch.manual_seed(1)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "fastgan.critic_loss falls back.*an earlier call")
        total = fastgan.critic_loss(critic, real, fake, loss=loss, penalties=given)
    assert relative_error(gradients(critic, total), truth) <= 1e-10


@pytest.mark.parametrize("compile", [False, "eager"])
@pytest.mark.parametrize("seen", [False, True])
def test_where_hooks_on_saved_tensors_are_disabled(seen, compile):
    """Autograd saves what it likes there: the penalty is differentiated twice, there and only there."""
    critic = nn.Sequential(nn.Linear(6, 8), nn.LeakyReLU(0.2), nn.Linear(8, 1)).double()
    real, fake = torch.randn(2, 4, 6).double()
    truth = gradients(critic, textbook(critic, real, fake, None, plain, r1=2, r2=5))
    if seen:
        fastgan.critic_loss(critic, real, fake, penalties=ALL, compile=compile)
    reason = r"saved_tensors_hooks, which recording needs, are disabled \(not here\)"
    with torch.autograd.graph.disable_saved_tensors_hooks("not here"):
        total = fastgan.critic_loss(critic, real, fake, penalties=ALL, compile=compile)
        assert total.method == "double_backward"
        assert re.fullmatch(reason, total.reason)
        assert_same(gradients(critic, total), truth)
        with pytest.raises(fastgan.NotAffineError, match=reason):
            fastgan.critic_loss(critic, real, fake, penalties=ALL, method="one_pass")
        assert re.search(reason, fastgan.explain(critic, real).reason)
    assert fastgan.critic_loss(critic, real, fake, penalties=ALL, compile=compile).method == "one_pass"
