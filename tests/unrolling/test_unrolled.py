"""The unrolled loss against closed forms, finite differences, and torch's optimisers on a copy of the critic."""

import copy
import re
from functools import partial

import pytest
import torch
from torch import nn

from fastgan.losses import hinge, minimax, nonsaturating
from fastgan.nn import spectral_norm_
from fastgan.unrolling import SGD, Adam, unrolled_critic, unrolled_generator_loss
from fastgan.unrolling.optimizers import Moments


class Line(nn.Module):
    """D(x) = φ x."""

    def __init__(self, phi):
        super().__init__()
        self.phi = nn.Parameter(torch.tensor(phi, dtype=torch.float64))

    def forward(self, x):
        return self.phi * x


@pytest.mark.parametrize("steps", [0, 1, 2, 7, 50])
def test_quadratic_game_in_closed_form(steps, generator):
    """L_f = a/2 φ² - φθ and L_g = φθ: φ_k = q φ_0 + (1 - q) θ / a with q = (1 - ηa)^k, and dL_g/dθ has both parts."""
    phi, theta, (a, lr) = torch.randn(()).item(), torch.randn((), dtype=torch.float64).requires_grad_(), (1.5, 0.2)
    one = torch.ones((), dtype=torch.float64)
    loss = unrolled_generator_loss(
        Line(phi),
        critic_loss=lambda D: a / 2 * D(one) ** 2 - D(theta),
        generator_loss=lambda D: D(theta),
        steps=steps,
        optimizer=SGD(lr),
    )
    (gradient,) = torch.autograd.grad(loss, theta)
    q, t = (1 - lr * a) ** steps, theta.item()
    reached = q * phi + (1 - q) * t / a
    size = abs(phi) + abs(t)
    assert loss.item() == pytest.approx(reached * t, abs=1e-13 * size**2)
    assert gradient.item() == pytest.approx(reached + t * (1 - q) / a, abs=1e-13 * size)


@pytest.fixture
def game(generator):
    """(critic, generator, data, latents), smooth and in float64."""
    critic = nn.Sequential(nn.Linear(2, 5), nn.Tanh(), nn.Linear(5, 1)).double()
    network = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double()
    return critic, network, *(torch.randn(6, n, dtype=torch.float64) for n in (2, 3))


def unrolled(game, steps, optimizer, loss=minimax):
    critic, network, real, z = game
    fake = network(z)
    return unrolled_generator_loss(
        critic,
        critic_loss=lambda D: loss.critic(D(real), D(fake)),
        generator_loss=lambda D: loss.generator(D(fake), None),
        steps=steps,
        optimizer=optimizer,
    )


# From averages that are not zero, Adam is smooth; from zero its root has a kink wherever a gradient changes its sign,
# which finite differences would step over: `test_adam_by_hand_on_one_number` starts there.
SHAPES = {"0.weight": (5, 2), "0.bias": (5,), "2.weight": (1, 5), "2.bias": (1,)}
MOMENTS = {
    name: Moments(2, torch.full(shape, -0.02, dtype=torch.float64), torch.full(shape, 0.05, dtype=torch.float64))
    for name, shape in SHAPES.items()
}
OPTIMIZERS = {"SGD": SGD(0.3), "Adam": Adam(0.05, (0.5, 0.9), 1e-3, MOMENTS)}
EVERY = pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS)


@EVERY
def test_no_steps_are_the_ordinary_loss(game, optimizer):
    critic, network, _, z = game
    ordinary = minimax.generator(critic(network(z)), None)
    loss = unrolled(game, 0, optimizer)
    assert torch.equal(loss, ordinary)
    parameters = list(network.parameters())
    for a, b in zip(torch.autograd.grad(loss, parameters), torch.autograd.grad(ordinary, parameters), strict=True):
        assert torch.equal(a, b)


@EVERY
@pytest.mark.parametrize("steps", [1, 3])
def test_gradient_is_that_of_finite_differences(game, optimizer, steps):
    """Of the whole loss, along a random direction of the generator's parameters."""
    _, network, *_ = game
    parameters = list(network.parameters())
    gradients = torch.autograd.grad(unrolled(game, steps, optimizer), parameters)
    directions = [torch.randn_like(p) for p in parameters]
    terms = torch.cat([(g * d).flatten() for g, d in zip(gradients, directions, strict=True)])

    def at(step):
        with torch.no_grad():
            torch._foreach_add_(parameters, directions, alpha=step)
            value = unrolled(game, steps, optimizer).item()
            torch._foreach_sub_(parameters, directions, alpha=step)
        return value

    # Fourth order: with h = 1e-3 its error h⁴ and the rounding eps / h are both far below 1e-7 of the terms.
    h = 1e-3
    numeric = (8 * (at(h) - at(-h)) - (at(2 * h) - at(-2 * h))) / (12 * h)
    assert numeric == pytest.approx(terms.sum().item(), abs=1e-7 * terms.abs().sum().item())


@EVERY
def test_the_answer_of_the_critic_is_part_of_the_gradient(game, optimizer):
    """Without the graph of the samples in the critic's steps only the ordinary part under the later critic is left."""
    critic, network, real, z = game
    parameters, fake = list(network.parameters()), network(z)
    after = unrolled_critic(critic, lambda D: minimax.critic(D(real), D(fake.detach())), 3, optimizer)
    partly = torch.autograd.grad(minimax.generator(after(fake), None), parameters)
    whole = torch.autograd.grad(unrolled(game, 3, optimizer), parameters)
    assert max(((a - b).abs().max() / a.abs().max()).item() for a, b in zip(whole, partly, strict=True)) > 1e-4


@pytest.mark.parametrize(("inner", "real"), [
    (SGD(0.3), partial(torch.optim.SGD, lr=0.3)),
    (Adam(0.05, (0.5, 0.9), 1e-6), partial(torch.optim.Adam, lr=0.05, betas=(0.5, 0.9), eps=1e-6)),
    (Adam(), torch.optim.Adam),
], ids=["SGD", "Adam", "Adam's defaults"])  # fmt: skip
def test_steps_are_those_of_torchs_optimisers(game, inner, real):
    critic, network, x, z = game
    fake = network(z).detach()
    after = unrolled_critic(critic, lambda D: minimax.critic(D(x), D(fake)), 4, inner)
    theirs = copy.deepcopy(critic)
    optimizer = real(theirs.parameters())
    for _ in range(4):
        optimizer.zero_grad()
        minimax.critic(theirs(x), theirs(fake)).backward()
        optimizer.step()
    torch.testing.assert_close(after(x), theirs(x), rtol=1e-9, atol=1e-11)


def test_adam_goes_on_from_the_critics_own_state(game):
    critic, network, x, z = game
    fake = network(z).detach()
    optimizer = torch.optim.Adam(critic.parameters(), 0.01, (0.5, 0.99), 1e-7)

    def step():
        optimizer.zero_grad()
        minimax.critic(critic(x), critic(fake)).backward()
        optimizer.step()

    for _ in range(3):
        step()
    after = unrolled_critic(critic, lambda D: minimax.critic(D(x), D(fake)), 2, Adam.continuing(optimizer, critic))
    expected = after(x)
    before = critic(x)
    step(), step()
    torch.testing.assert_close(critic(x), expected, rtol=1e-9, atol=1e-11)
    assert not torch.allclose(before, expected, rtol=1e-3)


def test_adam_by_hand_on_one_number(generator):
    """Two steps of Adam on L = φθ, whose gradient is θ: written out, and differentiated by hand at the first step."""
    phi, theta = 0.7, torch.tensor(-0.4, dtype=torch.float64, requires_grad=True)
    lr, (b1, b2), eps = 0.1, (0.6, 0.8), 0.01
    optimizer = Adam(lr, (b1, b2), eps)
    for steps in (1, 2):
        loss = unrolled_generator_loss(Line(phi), lambda D: D(theta), lambda D: D(theta), steps, optimizer)
        (gradient,) = torch.autograd.grad(loss, theta)
        t = theta.item()
        # The same gradient in every step, so that both corrected averages are exact: m̂ = θ and v̂ = θ².
        reached = phi - steps * lr * t / (abs(t) + eps)
        assert loss.item() == pytest.approx(reached * t, rel=1e-12)
        slope = -steps * lr * eps / (abs(t) + eps) ** 2
        assert gradient.item() == pytest.approx(reached + t * slope, rel=1e-10)


def test_a_gradient_of_zero_does_not_make_nan(generator):
    """A dead unit's gradient is 0, where Adam's root has no derivative."""
    critic = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 1)).double()
    with torch.no_grad():
        critic[0].bias.copy_(torch.tensor([-100.0, 0.1]))
    fake = torch.randn(4, 2, dtype=torch.float64, requires_grad=True)
    loss = unrolled_generator_loss(critic, lambda D: D(fake).square().mean(), lambda D: D(fake).mean(), 2, Adam(0.01))
    (gradient,) = torch.autograd.grad(loss, fake)
    assert gradient.isfinite().all()


class Critic(nn.Module):
    """With batch norm and spectral norm, whose buffers move in every call, and a parameter that is frozen."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.LeakyReLU(0.2), nn.Conv2d(4, 2, 3), nn.Flatten()
        )
        self.head = nn.Linear(8, 1)
        self.head.bias.requires_grad_(False)

    def forward(self, x):
        return self.head(self.layers(x))


@pytest.mark.parametrize("normalise", [
    lambda critic: critic,
    lambda critic: spectral_norm_(critic) and critic,
    lambda critic: nn.utils.parametrizations.spectral_norm(critic.head) and critic,
], ids=["batch norm", "fastgan's spectral norm", "torch's spectral norm"])  # fmt: skip
def test_nothing_of_the_critic_changes(normalise, generator):
    critic = normalise(Critic().double())
    real, fake = torch.randn(2, 4, 1, 4, 4, dtype=torch.float64)
    fake.requires_grad_()
    before = copy.deepcopy(critic.state_dict())
    versions = [p._version for p in critic.parameters()]
    loss = unrolled_generator_loss(
        critic, lambda D: hinge.critic(D(real), D(fake)), lambda D: hinge.generator(D(fake), None), 3, SGD(0.1)
    )
    loss.backward()
    assert fake.grad.abs().max() > 0
    assert all(torch.equal(value, before[name]) for name, value in critic.state_dict().items())
    assert [p._version for p in critic.parameters()] == versions
    assert all(p.grad is None for p in critic.parameters())
    assert not critic.head.bias.requires_grad


@pytest.mark.parametrize("theirs", [True, False], ids=["torch's", "fastgan's"])
def test_convolutions_and_normalisations_by_hand(theirs, generator):
    """Two steps written down with autograd, on copies of the critic whose parameters are assigned."""
    critic = Critic().double()
    if theirs:
        nn.utils.parametrizations.spectral_norm(critic.layers[0])
    else:
        spectral_norm_(critic)
    critic.layers[1].momentum = 0.5
    real, fake = torch.randn(2, 4, 1, 4, 4, dtype=torch.float64)
    fake.requires_grad_()
    by_hand = copy.deepcopy(critic)
    loss = unrolled_generator_loss(
        critic, lambda D: nonsaturating.critic(D(real), D(fake)), lambda D: D(fake).mean(), 2, SGD(0.1)
    )
    (found,) = torch.autograd.grad(loss, fake)

    names = [name for name, p in by_hand.named_parameters() if p.requires_grad]
    tensors = {name: by_hand.get_parameter(name).detach().clone().requires_grad_() for name in names}
    for _ in range(2):
        assign(by_hand, tensors)
        inner = nonsaturating.critic(by_hand(real), by_hand(fake))
        gradients = torch.autograd.grad(inner, list(tensors.values()), create_graph=True)
        tensors = {name: p - 0.1 * g for (name, p), g in zip(tensors.items(), gradients, strict=True)}
    assign(by_hand, tensors)
    (expected,) = torch.autograd.grad(by_hand(fake).mean(), fake)
    torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-10)


def assign(module, tensors):
    """Puts tensors with a graph where the parameters were."""
    for name, tensor in tensors.items():
        path, _, last = name.rpartition(".")
        owner = module.get_submodule(path)
        owner._parameters.pop(last, None)
        owner._parameters[last] = tensor


def test_without_gradients_the_value_is_the_same(game):
    with torch.no_grad():
        value = unrolled(game, 2, SGD(0.3))
    torch.testing.assert_close(value, unrolled(game, 2, SGD(0.3)).detach())


def test_a_new_batch_for_each_step(game):
    critic, _, real, _ = game
    batches = iter(torch.randn(3, 6, 2, dtype=torch.float64))
    unrolled_critic(critic, lambda D: minimax.critic(D(real), D(next(batches))), 3, SGD(0.1))
    assert next(batches, None) is None


def test_tied_parameters_stay_tied(generator):
    linear = nn.Linear(2, 2, bias=False).double()
    critic = nn.Sequential(linear, nn.Tanh(), linear)
    x = torch.randn(3, 2, dtype=torch.float64)
    after = unrolled_critic(critic, lambda D: D(x).square().mean(), 1, SGD(0.5))
    g = torch.autograd.grad(critic(x).square().mean(), linear.weight)[0]
    w = linear.weight - 0.5 * g
    torch.testing.assert_close(after(x), (x @ w.T).tanh() @ w.T)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_other_dtypes(dtype, generator):
    critic, fake = nn.Linear(2, 1).to(dtype), torch.randn(4, 2, dtype=dtype, requires_grad=True)
    for optimizer in (SGD(0.1), Adam()):
        loss = unrolled_generator_loss(
            critic, lambda D: D(fake).square().mean(), lambda D: D(fake).mean(), 2, optimizer
        )
        assert loss.dtype == dtype
        assert torch.autograd.grad(loss, fake)[0].isfinite().all()


def test_bad_arguments(game):
    critic, _, real, _ = game

    def unroll(steps=1, loss=lambda D: D(real).mean(), critic=critic):
        return unrolled_critic(critic, loss, steps, SGD(0.1))

    for steps in (-1, 1.0, "2", None):
        with pytest.raises(ValueError, match=re.escape(f"steps is {steps!r}, expected an integer of at least 0")):
            unroll(steps)
    with pytest.raises(ValueError, match=re.escape("critic_loss has shape [6, 1], expected a scalar")):
        unroll(loss=lambda D: D(real))
    for loss in (lambda D: critic(real).mean(), lambda D: real.sum()):
        with pytest.raises(ValueError, match="critic_loss does not depend on the critic that it was given"):
            unroll(loss=loss)
    with pytest.raises(ValueError, match="critic has no parameter that requires a gradient"):
        unroll(critic=copy.deepcopy(critic).requires_grad_(False))


def test_bad_optimisers(game):
    critic, *_ = game
    for make, message in (
        (lambda: SGD(-1), "SGD: lr is -1, expected a finite number >= 0"),
        (lambda: Adam(lr=float("nan")), "Adam: lr is nan, expected a finite number >= 0"),
        (lambda: Adam(eps=0), "Adam: eps is 0, expected a finite number > 0"),
        (lambda: Adam(betas=(0.9, 1.0)), "Adam: betas is (0.9, 1.0), expected two numbers, at least 0 and below 1"),
        (lambda: Adam.continuing(torch.optim.Adam(critic.parameters(), weight_decay=0.1), critic),
         "optimizer has weight_decay=0.1, expected none"),
        (lambda: Adam.continuing(torch.optim.Adam(critic.parameters(), amsgrad=True), critic),
         "optimizer has amsgrad=True, expected none"),
        (lambda: Adam.continuing(torch.optim.Adam([{"params": [p]} for p in critic.parameters()]), critic),
         "optimizer has 4 groups, expected one"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=re.escape(message)):
            make()
    with pytest.raises(TypeError, match=re.escape("optimizer is SGD, expected torch.optim.Adam")):
        Adam.continuing(torch.optim.SGD(critic.parameters()), critic)
