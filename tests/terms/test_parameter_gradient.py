"""The squared norm of a parameter gradient against closed forms, explicit Hessians and finite differences."""

import re

import pytest
import torch
from torch import nn
from torch.func import functional_call

from fastgan.losses import nonsaturating
from fastgan.terms import parameter_gradient


@pytest.fixture
def players(generator):
    critic = nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 1)).double()
    network = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double()
    return critic, network


def test_quadratic_in_closed_form(generator):
    """L = ½ wᵀAw - bᵀw: the gradient is Aw - b, and that of its square 2 A (Aw - b)."""
    root, b, w = torch.randn(5, 5, dtype=torch.float64), *torch.randn(2, 5, dtype=torch.float64)
    A = root @ root.T
    w.requires_grad_()
    value = parameter_gradient(0.5 * w @ A @ w - b @ w, [w])
    residual = (A @ w - b).detach()
    torch.testing.assert_close(value.detach(), residual.square().sum(), rtol=1e-12, atol=0)
    (found,) = torch.autograd.grad(value, w)
    expected = 2 * A @ residual
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12 * (2 * A.abs() @ residual.abs()).max().item())


def test_the_bilinear_game():
    """V = -φθ, the critic minimises φθ and the generator -φθ: ||∇_φ L_f||² = θ², ||∇_θ L_g||² = φ²."""
    phi, theta = (torch.tensor(x, dtype=torch.float64, requires_grad=True) for x in (3.0, -2.0))
    of_critic = parameter_gradient(phi * theta, [phi])
    of_generator = parameter_gradient(-phi * theta, [theta])
    assert (of_critic.item(), of_generator.item()) == (4.0, 9.0)
    # Nagarajan and Kolter: the generator moves θ towards 0, where the critic's gradient vanishes.
    assert torch.autograd.grad(of_critic, theta)[0].item() == -4.0
    # Consensus: the sum is the Hamiltonian, whose gradient is (2φ, 2θ).
    found = torch.autograd.grad(of_generator + parameter_gradient(phi * theta, [phi]), (phi, theta))
    assert [g.item() for g in found] == [6.0, -4.0]


def flat(tensors):
    return torch.cat([t.flatten() for t in tensors])


def test_its_gradient_is_twice_the_hessian_times_the_gradient(players, generator):
    """With respect to the parameters themselves; the Hessian is written down entry by entry."""
    critic, network = players
    x, z = torch.randn(6, 2, dtype=torch.float64), torch.randn(6, 3, dtype=torch.float64)
    fake = network(z).detach()
    names = [name for name, _ in critic.named_parameters()]
    start = flat(critic.parameters()).detach()

    def loss_at(vector):
        pieces = vector.split([p.numel() for p in critic.parameters()])
        state = {n: v.view_as(p) for n, v, p in zip(names, pieces, critic.parameters(), strict=True)}
        return nonsaturating.critic(functional_call(critic, state, (x,)), functional_call(critic, state, (fake,)))

    g = torch.autograd.functional.jacobian(loss_at, start)
    H = torch.autograd.functional.hessian(loss_at, start)
    value = parameter_gradient(nonsaturating.critic(critic(x), critic(fake)), critic.parameters())
    torch.testing.assert_close(value.detach(), g.square().sum(), rtol=1e-12, atol=0)
    found = torch.autograd.grad(value, list(critic.parameters()), allow_unused=True)
    found = flat(torch.zeros_like(p) if d is None else d for d, p in zip(found, critic.parameters(), strict=True))
    # Absolute to the size of the sums: single entries cancel.
    torch.testing.assert_close(found, 2 * H @ g, rtol=0, atol=1e-12 * (2 * H.abs() @ g.abs()).max().item())


@pytest.mark.parametrize("use", ["critic", "generator", "critic's for the generator", "sum"])
def test_finite_differences_of_each_use(players, generator, use):
    critic, network = players
    x, z = torch.randn(6, 2, dtype=torch.float64), torch.randn(6, 3, dtype=torch.float64)

    def value():
        both = nonsaturating(critic(x), critic(network(z)))
        f = parameter_gradient(both.critic, critic.parameters())
        g = parameter_gradient(both.generator, network.parameters())
        return {"critic": f, "generator": g, "critic's for the generator": f, "sum": f + g}[use]

    moved = list((critic if use == "critic" else network).parameters())
    if use == "sum":
        moved += list(critic.parameters())
    gradients = torch.autograd.grad(value(), moved, allow_unused=True)
    directions = [torch.randn_like(p) for p in moved]
    expected = sum((g * d).sum() for g, d in zip(gradients, directions, strict=True) if g is not None).item()
    scale = sum((g * d).abs().sum() for g, d in zip(gradients, directions, strict=True) if g is not None).item()

    def at(step):
        with torch.no_grad():
            torch._foreach_add_(moved, directions, alpha=step)
        result = value().item()
        with torch.no_grad():
            torch._foreach_sub_(moved, directions, alpha=step)
        return result

    # Fourth order: with h = 1e-3 its error h⁴ and the rounding eps / h are both below 1e-8 of the terms.
    h = 1e-3
    numeric = (8 * (at(h) - at(-h)) - (at(2 * h) - at(-2 * h))) / (12 * h)
    assert numeric == pytest.approx(expected, rel=0, abs=1e-7 * scale)


def test_gradcheck_to_the_second_order(generator):
    w = torch.randn(3, 2, dtype=torch.float64, requires_grad=True)
    x = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)

    def value(w, x):
        return parameter_gradient((x @ w).tanh().square().mean(), [w])

    assert torch.autograd.gradcheck(value, (w, x))
    assert torch.autograd.gradgradcheck(value, (w, x))


def test_the_loss_can_be_differentiated_after_it(players, generator):
    critic, _ = players
    x = torch.randn(5, 2, dtype=torch.float64)
    loss = critic(x).square().mean()
    alone = torch.autograd.grad(loss, list(critic.parameters()), retain_graph=True)
    parameter_gradient(loss, critic.parameters())
    after = torch.autograd.grad(loss, list(critic.parameters()))
    assert all(torch.equal(a, b) for a, b in zip(alone, after, strict=True))
    assert all(p.grad is None for p in critic.parameters())


def test_frozen_and_unused_parameters_count_as_zero(generator):
    used, frozen, unused = (torch.tensor([2.0, 3.0], requires_grad=k != 1) for k in range(3))
    loss = (used * frozen).sum()
    assert parameter_gradient(loss, [used, frozen, unused]).item() == 13.0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_squares_are_summed_in_float32_or_float64(dtype):
    """Each of the squares, 2^16, is beyond float16, and bfloat16 could not count to 1,000 of them."""
    w = torch.zeros(1000, dtype=dtype, requires_grad=True)
    value = parameter_gradient((256 * w).sum(), [w])
    assert value.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert value.item() == 1000 * 2.0**16


def test_parameters_of_several_dtypes():
    single, double = torch.ones(3, requires_grad=True), torch.ones(2, dtype=torch.float64, requires_grad=True)
    value = parameter_gradient(single.sum() * 2 + double.sum() * 3, [single, double])
    assert value.dtype == torch.float64
    assert value.item() == 3 * 4 + 2 * 9


def test_bad_arguments():
    w = torch.ones(2, requires_grad=True)
    linear = nn.Linear(2, 1)
    loss = w.sum()
    for parameters, error, message in (
        (w, TypeError, "parameters is Tensor, expected several tensors, as in critic.parameters()"),
        (linear, TypeError, "parameters is Linear, expected several tensors, as in critic.parameters()"),
        (None, TypeError, "parameters is NoneType, expected several tensors"),
        (["weight"], TypeError, "parameters holds a str, expected tensors"),
        ([], ValueError, "parameters is empty, expected at least one tensor"),
        (linear.parameters(), ValueError, "loss depends on none of the parameters"),
        ([w.detach()], ValueError, "loss depends on none of the parameters"),
    ):
        with pytest.raises(error, match=re.escape(message)):
            parameter_gradient(loss, parameters)
    with pytest.raises(ValueError, match=re.escape("loss has shape [2], expected a scalar")):
        parameter_gradient(2 * w, [w])
    with pytest.raises(ValueError, match="loss has no graph"):
        parameter_gradient(loss.detach(), [w])
