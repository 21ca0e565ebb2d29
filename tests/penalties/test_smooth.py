"""Which critics method="directional" refuses, by what reason; and what runs them leave behind."""

import copy
import itertools
import random

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

import fastgan
from fastgan.penalties import R1, WGANGP, Directional, NoMethodError
from tests.penalties.common import plain
from tests.penalties.critics import batch, build, gradients
from tests.penalties.smooth_critics import SMOOTH, composed, error
from tests.penalties.test_directional import truth_of


class Middle(nn.Module):
    """A smooth perceptron with one more function in the middle."""

    def __init__(self, middle) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(6, 8), nn.Linear(8, 1)
        self.middle = middle

    def forward(self, x):
        return self.last(self.middle(torch.tanh(self.first(x))))


class Reversed(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, g):
        return -g


def _filled(h):
    kept = torch.zeros_like(h)
    kept[:, :4] = F.relu(h[:, :4])
    return kept + h


def _in_place(h):
    h = h * 1.5
    h.clamp_(-0.5, 0.5)
    return h


def _by_index(h):
    return h.gather(1, h.argsort(1))


def _norm(h):
    return h * torch.linalg.vector_norm(h, ord=1, dim=1, keepdim=True)


class Magnitude(torch.autograd.Function):
    """|h| by memory that no operation is seen to fill, with its own backward."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        y = torch.empty_like(x)
        y.numpy()[...] = np.abs(x.detach().numpy())
        return y

    @staticmethod
    def backward(ctx, g):
        return g * ctx.saved_tensors[0].sign()


class Filled(torch.autograd.Function):
    """Ones, in memory that no operation is seen to fill; the gradient goes on to its input."""

    @staticmethod
    def forward(ctx, x):
        return torch.from_numpy(np.ones(tuple(x.shape)))

    @staticmethod
    def backward(ctx, g):
        return g


def _behind_autograd(h):
    h = h * 1.5
    with torch.no_grad():
        h.div_(1 + h.square().mean(1, keepdim=True))
    return h


def _weight_behind_autograd(h):
    w = torch.ones(8, dtype=h.dtype, requires_grad=True) * 1
    with torch.no_grad():
        w.mul_(h.square().mean())
    return h * w


def _hooked(h):
    h = h * 1.5
    h.register_hook(lambda g: g / 2)
    return h.tanh()


def _hooked_weight(h):
    w = torch.ones(8, dtype=h.dtype, requires_grad=True) * 2
    w.register_hook(lambda g: g.clamp(-0.01, 0.01))
    return (h + w).tanh()


ROUGH = {
    "a hook on a weight": (_hooked_weight, "a hook that the critic registers"),
    "differentiated inside": (
        lambda h: h + torch.func.grad(lambda v: v.sin().sum())(h.detach()),
        "constant|torch.func",
    ),
    "a hook": (_hooked, "a hook"),
    "changed behind autograd": (_behind_autograd, "changed in place where autograd is off"),
    "a weight changed behind autograd": (_weight_behind_autograd, "changed in place where autograd is off"),
    "numbers by tolist": (lambda h: h * torch.tensor(h.tolist()).mean(), "tolist"),
    "magnitudes by numpy": (lambda h: h + Magnitude.apply(h), "past autograd|any backward"),
    "a function of unseen memory": (lambda h: h + Filled.apply(h), "Filled may have any backward"),
    "a mask drawn by the samples": (lambda h: h * torch.bernoulli(h.sigmoid()), "bernoulli"),
    "an early threshold": (lambda h: F.softplus(h, threshold=0.1), "threshold"),
    "clamped logits": (lambda h: h.sigmoid().logit(eps=0.45), "logit"),
    "relu": (F.relu, "relu"),
    "leaky relu": (lambda h: F.leaky_relu(h, 0.2), "leaky_relu"),
    "abs": (torch.abs, "abs"),
    "amax": (lambda h: h + h.amax(1, keepdim=True), "amax"),
    "clamp in place": (_in_place, "clamp_"),
    "elu, whose second derivative jumps": (F.elu, "elu"),
    "a part of a tensor filled": (_filled, "relu"),
    "where": (lambda h: torch.where(h > 0, h, 0.1 * h), "choose something"),
    "a mask of the samples": (lambda h: h.masked_fill(h < 0, 0.0), "choose something"),
    "a product with a mask": (lambda h: h * (h > 0), "choose something"),
    "sorted by index": (_by_index, "sort"),
    "rounded": (lambda h: h + torch.round(h).detach(), "round"),
    "detached": (lambda h: h / (h.square().mean().detach() + 1), "taken for a constant"),
    "without grad": (lambda h: h * torch.no_grad()(lambda: h.square().mean())(), "taken for a constant"),
    "a number": (lambda h: h * (h.square().mean().item() + 1), "Python number"),
    "a reversed gradient": (Reversed.apply, "Reversed may have any backward"),
    "1-norm": (_norm, "order"),
    "odd power": (lambda h: (h * h) ** 1.7, "exponent is no whole number"),
    "unknown": (lambda h: h + torch.special.bessel_j0(h), "bessel_j0"),
    "re-entrant checkpoint": (lambda h: checkpoint(torch.tanh, h, use_reentrant=True), "use_reentrant=False"),
}


def samples_for(critic):
    return torch.randn(2, 5, 6, dtype=next(critic.parameters()).dtype)


@pytest.mark.parametrize("kind", ROUGH)
def test_refused_by_name(kind, seed):
    torch.manual_seed(seed)
    middle, said = ROUGH[kind]
    critic = Middle(middle).double()
    with pytest.raises(fastgan.NotSmoothError, match=said):
        fastgan.critic_loss(critic, *samples_for(critic), method="directional")
    with pytest.raises(fastgan.NotSmoothError, match=said):
        fastgan.gradient_penalty(critic, samples_for(critic)[0], R1(1.0), method="directional")


SMOOTH_MIDDLES = {
    "masked by a constant": lambda h: h.masked_fill(torch.arange(8) % 2 == 0, 0.3),
    "where by a constant": lambda h: torch.where(torch.arange(8) % 2 == 0, h.square(), h),
    "kinks of weights": lambda h: h * torch.ones(8, dtype=h.dtype, requires_grad=True).relu(),
    "looked at": lambda h: (h.detach().abs().amax(), h.relu(), h)[-1],
    "filled": lambda h: torch.zeros_like(h).copy_(h) + 1,
    "normalised": lambda h: F.normalize(h, dim=1),
    "mean square": lambda h: h * F.mse_loss(h, torch.zeros_like(h)),
    "powers of two": lambda h: 2**h,
    "along the batch": lambda h: h.cumsum(0).tanh(),
    "norms": lambda h: h / (torch.linalg.vector_norm(h, dim=1, keepdim=True) + 1),
    "powers": lambda h: h**3 + (h * h + 1) ** 0.5 + (h * h + 1) ** -1,
    "spectrum": lambda h: torch.fft.irfft(torch.fft.rfft(h) * 2, n=8),
    "checkpoint": lambda h: checkpoint(lambda h: torch.tanh(h) * 2, h, use_reentrant=False),
    "attention": lambda h: F.scaled_dot_product_attention(h[:, None], h[:, None], h[:, None])[:, 0],
    "bias_act": lambda h: fastgan.ops.bias_act(h, act="swish"),
    "in place": lambda h: (h * 1.5).add_(0.1).tanh_(),
    "layer norm": lambda h: F.layer_norm(h, (8,)),
}


@pytest.mark.parametrize("kind", SMOOTH_MIDDLES)
def test_taken(kind, seed):
    torch.manual_seed(seed)
    critic = Middle(SMOOTH_MIDDLES[kind]).double()
    real, fake = samples_for(critic)
    found = gradients(critic, fastgan.critic_loss(critic, real, fake, loss=plain, method="directional"))
    if kind == "attention":
        critic.middle = lambda h: h  # one token attends to itself alone
    truth = gradients(critic, fastgan.critic_loss(critic, real, fake, loss=plain, method="double_backward"))
    assert error(found, truth) <= 1e-7


def test_hooks_on_weights_see_the_whole_gradient_once(seed):
    torch.manual_seed(seed)
    found = []
    for method in ("directional", "double_backward"):
        torch.manual_seed(seed)
        critic, maker, calls = Middle(torch.tanh).double(), nn.Linear(3, 64).double(), []
        made = maker(torch.randn(3).double()).view(8, 8)
        made.register_hook(lambda g: calls.append(1) or g.clamp(-1e-3, 1e-3))  # noqa: B023
        critic.first.weight.register_hook(lambda g: calls.append(1) or g.clamp(-1e-2, 1e-2))  # noqa: B023
        critic.middle = lambda h: F.linear(h, made).tanh()  # noqa: B023
        real, fake = samples_for(critic)
        total = fastgan.critic_loss(critic, real, fake, loss=plain, penalties=(R1(10.0),), method=method)
        found.append({**gradients(critic, total), "maker": maker.weight.grad})
        assert len(calls) == 2
    assert error(*found) <= 1e-7


def test_what_changes_between_steps_is_seen(seed):
    """Refusals, couplings and constants are those of the step, not of an earlier one."""
    torch.manual_seed(seed)
    critic = Middle(F.relu).double()
    real, fake = samples_for(critic)
    coupled = [0]
    middles = (
        F.silu,
        lambda h: h - 0.9 * h.mean(coupled[0], keepdim=True),
        lambda h: h * 2.0,
        nn.BatchNorm1d(8).double(),
    )
    for zero in (True, False):
        head = critic.last.weight.data.clone()
        for middle in middles:
            for coupled[0] in (1, 0):
                critic.middle = F.relu
                with pytest.raises(fastgan.NotSmoothError, match="relu"):
                    fastgan.critic_loss(critic, real, fake, method="directional")
                critic.middle = lambda h: torch.tanh(middle(h)) * 1  # noqa: B023
                critic.last.weight.data = torch.zeros_like(head) if zero else head
                pair = [
                    gradients(critic, fastgan.critic_loss(critic, real, fake, loss=plain, method=method))
                    for method in ("directional", "double_backward")
                ]
                assert error(*pair) <= 1e-7
        critic.middle = lambda h: h * h.square().mean(1, keepdim=True).detach()
        with pytest.raises(fastgan.NotSmoothError, match="taken for a constant"):
            fastgan.critic_loss(critic, real, fake, method="directional")
        critic.last.weight.data = head


GENERATOR = torch.Generator().manual_seed(0)


class Unseen(nn.Module):
    """Noise by a generator that is a global of the module's forward: no snapshot finds it."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 1)

    def forward(self, x):
        return torch.tanh(self.layer(x) + torch.randn(1, generator=GENERATOR))


def test_state_that_cannot_be_put_back_is_noticed(seed):
    torch.manual_seed(seed)
    for dtype in (torch.float64, torch.float32):
        critic = Unseen().to(dtype)
        with pytest.raises(fastgan.NotSmoothError, match="the same numbers"):
            fastgan.critic_loss(critic, *samples_for(critic), method="directional")


def test_without_autograd_there_is_a_value(seed):
    torch.manual_seed(seed)
    critic = Middle(torch.tanh).double()
    real, fake = samples_for(critic)
    with torch.no_grad():
        values = [fastgan.critic_loss(critic, real, fake, method=m).item() for m in ("directional", "double_backward")]
    assert values[0] == pytest.approx(values[1], rel=1e-12)


def test_an_estimate_where_there_is_nothing_to_estimate(seed):
    torch.manual_seed(seed)
    critic = Middle(torch.tanh).double()
    real, fake = samples_for(critic)
    method = Directional(estimate=True)
    assert fastgan.critic_loss(critic, real, fake, penalties=(), method=method).error_estimate == 0
    assert fastgan.critic_loss(critic.requires_grad_(False), real, fake, method=method).error_estimate == 0


def test_forced(seed):
    """A critic with kinks may be taken all the same; few are crossed between points that are close."""
    torch.manual_seed(seed)
    critic = Middle(F.relu).double()
    real, fake = samples_for(critic)
    truth = gradients(critic, fastgan.critic_loss(critic, real, fake, loss=plain))
    method = Directional(1e-7, force=True)
    found = fastgan.critic_loss(critic, real, fake, loss=plain, method=method)
    assert error(gradients(critic, found), truth) <= 1e-5


def test_wrong_arguments():
    critic = nn.Sequential(nn.Linear(6, 1), nn.Tanh()).double()
    real, fake = samples_for(critic)
    for step in (0, -1.0, float("nan"), True, "a"):
        with pytest.raises(ValueError, match="step is"):
            Directional(step)
    with pytest.raises(ValueError, match="expected more than"):
        fastgan.critic_loss(critic, real, fake, method=Directional(1e-30))
    with pytest.raises(TypeError, match="name what is judged"):
        fastgan.critic_loss(lambda x: (critic(x), x), real, fake, method="directional")
    with pytest.raises(ValueError, match="method is 'directions', expected one of auto, one_pass"):
        fastgan.critic_loss(critic, real, fake, method="directions")
    with pytest.raises(fastgan.NotSmoothError, match="several numbers"):
        fastgan.critic_loss(critic, real, fake, loss="mmd", penalties=(R1(1.0),), method="directional")
    kept = {}

    def keeping(x):
        kept["last"] = torch.tanh(critic[0](x))
        kept.setdefault("first", kept["last"])
        return kept["last"]

    with pytest.raises(fastgan.NotSmoothError, match="activations"):
        fastgan.critic_loss(
            keeping, real, fake, loss=lambda r, f: plain(r, f) + kept["first"].sum(), method="directional"
        )
    with pytest.raises(fastgan.NotSmoothError, match="does not depend"):
        fastgan.critic_loss(lambda x: critic[0].bias.expand(len(x)).tanh(), real, fake, method="directional")


def test_a_branch_that_depends_on_the_samples(seed):
    torch.manual_seed(seed)
    critic = Middle(lambda h: h).double()
    real, fake = samples_for(critic)
    calls = itertools.count(1)

    def branching(x):
        h = critic(x)
        return h.tanh() if next(calls) > 3 else h  # after the trial, and real and fake samples

    with pytest.raises(fastgan.NotSmoothError, match="another path"):
        fastgan.critic_loss(branching, real, fake, method="directional", penalties=(R1(1.0),))


class Stateful(nn.Module):
    """State of every kind, by which the output is scaled: a buffer, an attribute, random numbers of three libraries."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 1))
        self.register_buffer("count", torch.zeros(()))
        self.calls, self.generator = 0, torch.Generator().manual_seed(4)

    def forward(self, x):
        self.count += 1
        self.calls += 1
        noise = torch.rand(1).item() + random.random() + np.random.rand() + torch.rand(1, generator=self.generator)
        return self.layers(x) * (noise + 0.5 * self.count.clone() + self.calls)


def test_state_is_that_of_one_run_of_each_batch(seed):
    def run(method):
        torch.manual_seed(seed)
        random.seed(seed)
        np.random.seed(seed % 2**32)
        critic = Stateful().double()
        real, fake = samples_for(critic)
        totals = []
        for _ in range(2):
            total = fastgan.critic_loss(critic, real, fake, penalties=(R1(2.0), WGANGP(1.0)), method=method)
            totals.append(total.item())
        drawn = torch.rand(1).item(), random.random(), np.random.rand(), torch.rand(1, generator=critic.generator)
        return gradients(critic, total), totals, drawn, critic.calls, critic.count.item()

    found, truth = run("directional"), run("double_backward")
    assert error(found[0], truth[0]) <= 1e-7
    assert found[1] == pytest.approx(truth[1], rel=1e-12)
    assert found[2:] == truth[2:]


def test_nothing_is_run_again_from_a_state_that_is_lost(seed):
    """A tensor that no snapshot has: large, and first overwritten after the trial."""
    torch.manual_seed(seed)

    class Bank(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.bank, self.calls = nn.Linear(6, 1), torch.zeros(2**19), 0

        def forward(self, x):
            self.calls += 1
            if self.calls > 1:
                self.bank += 1
            return self.layer(x).tanh() * (1 + self.bank[0])

    critic = Bank().double()
    with pytest.raises(RuntimeError, match="of which there is no copy"):
        fastgan.critic_loss(critic, *samples_for(critic), method="directional")


def test_no_method_names_every_obstacle(seed):
    torch.manual_seed(seed)
    critic = Middle(lambda h: F.relu(checkpoint(torch.tanh, h, use_reentrant=True))).double()
    with pytest.raises(NoMethodError, match=r"one_pass: .*double_backward: .*use_reentrant=False.*directional: "):
        fastgan.critic_loss(critic, *samples_for(critic))


def test_random_numbers_where_a_compiler_draws_them(seed, fresh_dynamo):
    torch.manual_seed(seed)
    critic, (real, fake, _) = build(SMOOTH["dropout"]), batch(SMOOTH["dropout"])
    with pytest.raises(fastgan.NotSmoothError, match=r"(dropout|bernoulli).*leave compile out"):
        fastgan.critic_loss(critic, real, fake, method="directional", compile="aot_eager")


@pytest.mark.parametrize("kind", ["transformer", "spectral norm"])
def test_checkpoints(kind, seed):
    torch.manual_seed(seed)
    critic, samples = build(SMOOTH[kind]), batch(SMOOTH[kind])
    *_, truth = truth_of(critic, samples, plain, "both", seed)
    inside = critic.blocks if kind == "transformer" else critic
    whole = inside.forward
    inside.forward = lambda h: checkpoint(whole, h, use_reentrant=False)
    found = fastgan.critic_loss(
        critic, *samples[:2], loss=plain, penalties=(R1(2.0), fastgan.penalties.R2(5.0)), method="directional"
    )
    if kind == "transformer":
        assert error(gradients(critic, found), truth) <= 1e-7


def test_loss_scaling_in_float16(seed):
    """A loss scale multiplies finished gradients, and small ones do not vanish on their way."""
    torch.manual_seed(seed)
    critic, (real, fake, _) = SMOOTH["convolutions"].build(), batch(SMOOTH["convolutions"], dtype=torch.float32)
    exact = composed(copy.deepcopy(critic)).double()
    loss = lambda r, f: 1e-3 * plain(r.float(), f.float())  # noqa: E731
    truth = gradients(
        exact,
        fastgan.critic_loss(
            exact, real.double(), fake.double(), loss=loss, penalties=(R1(1e-2),), method="double_backward"
        ),
    )
    with torch.autocast("cpu", torch.float16):
        found = fastgan.critic_loss(critic, real, fake, loss=loss, penalties=(R1(1e-2),), method="directional")
    found = {n: g / 65536 for n, g in gradients(critic, 65536 * found).items()}
    assert error(found, truth) <= 3e-2
