"""adaptive_weight against gradients by hand: a linear decoder, whose last layer's gradients are outer products."""

import numpy as np
import pytest
import torch
from torch import nn

from fastgan.losses import adaptive_weight


def losses(weight, h, target, direction):
    """A decoder y = h W^T, judged by its squared error and by a linear critic."""
    y = h @ weight.t()
    return (y - target).square().mean(), -(y @ direction).mean()


@pytest.fixture
def problem(generator):
    weight = torch.randn(3, 5, generator=generator, dtype=torch.float64).requires_grad_()
    return weight, *(torch.randn(*shape, generator=generator, dtype=torch.float64) for shape in ((4, 5), (4, 3), (3,)))


def test_is_the_quotient_of_the_norms(problem):
    weight, h, target, direction = problem
    w, x, t, c = (tensor.detach().numpy() for tensor in problem)
    of_error = 2 / t.size * (x @ w.T - t).T @ x
    of_critic = -np.outer(c, x.mean(0))
    expected = np.sqrt((of_error**2).sum()) / (np.sqrt((of_critic**2).sum()) + 0.1)
    found = adaptive_weight(*losses(weight, h, target, direction), weight, eps=0.1)
    assert found.item() == pytest.approx(expected, rel=1e-12)
    assert found.dtype == torch.float64
    assert not found.requires_grad


def test_both_losses_can_be_differentiated_afterwards_and_nothing_is_left_in_grad(problem):
    weight, *rest = problem
    reconstruction, adversarial = losses(weight, *rest)
    factor = adaptive_weight(reconstruction, adversarial, weight)
    assert weight.grad is None
    (reconstruction + factor * adversarial).backward()
    apart = [torch.autograd.grad(loss, weight, retain_graph=True)[0] for loss in losses(weight, *rest)]
    torch.testing.assert_close(weight.grad, apart[0] + factor * apart[1])


def test_a_silent_critic_gives_the_largest_weight(problem):
    weight, h, target, direction = problem
    reconstruction, adversarial = losses(weight, h, target, 0 * direction)
    assert adaptive_weight(reconstruction, adversarial, weight, largest=50.0) == 50
    assert adaptive_weight(adversarial, reconstruction, weight) == 0


@pytest.mark.parametrize("scale", [1e-30, 1e-3, 1e30])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_scale_of_both_losses_does_not_matter(problem, dtype, scale):
    """Squares of these gradients are no numbers of float32."""
    weight, h, target, direction = problem
    expected = adaptive_weight(*losses(weight, h, target, direction), weight, eps=1e-300)
    narrow = [tensor.detach().to(dtype) for tensor in (weight, h, target, direction)]
    narrow[0].requires_grad_()
    scaled = [scale * loss for loss in losses(*narrow)]
    found = adaptive_weight(*scaled, narrow[0], eps=1e-300)
    assert found.dtype == torch.float32
    assert found.item() == pytest.approx(expected.item(), rel=1e-5 if dtype == torch.float32 else 0.05)


def test_under_autocast(generator):
    decoder = nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 3))
    h, critic = torch.randn(4, 5, generator=generator), nn.Linear(3, 1)
    with torch.autocast("cpu", torch.bfloat16):
        y = decoder(h)
        found = adaptive_weight(y.float().square().mean(), -critic(y).mean(), decoder[2].weight)
    y = decoder(h)
    exact = adaptive_weight(y.square().mean(), -critic(y).mean(), decoder[2].weight)
    assert found.item() == pytest.approx(exact.item(), rel=0.05)


def test_what_cannot_be_weighed_is_named(problem):
    weight, *rest = problem
    reconstruction, adversarial = losses(weight, *rest)
    other = torch.ones(2, requires_grad=True)
    for arguments, message in (
        ((reconstruction.expand(2), adversarial, weight), r"reconstruction has shape \[2\], expected a scalar"),
        ((reconstruction, other.sum(), weight), r"adversarial does not depend on weight, a tensor of shape \[3, 5\]"),
        ((reconstruction.detach(), adversarial, weight), "reconstruction does not depend on weight"),
        ((reconstruction, adversarial, weight.detach()), "reconstruction does not depend on weight"),
    ):
        with pytest.raises(ValueError, match=f"^adaptive_weight: {message}"):
            adaptive_weight(*arguments)
    for name in ("eps", "largest"):
        with pytest.raises(ValueError, match=f"^adaptive_weight: {name} is 0.0, expected a finite number above 0"):
            adaptive_weight(reconstruction, adversarial, weight, **{name: 0.0})
