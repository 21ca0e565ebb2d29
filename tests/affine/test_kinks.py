"""Exactly on the kinks the frozen masks are those of PyTorch's own double backward (docs/kinks.md).

A critic of elementwise products by weights of one: every activation is asked at the numbers of the input, and again at
what has become of them. -0.0 stays -0.0.
"""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import fastgan
from fastgan.affine.rules import piecewise
from fastgan.ops import bias_act
from fastgan.penalties import R1, R2
from tests.penalties.critics import gradients, relative_error, textbook

pytestmark = pytest.mark.usefixtures("one_thread")

Z = torch.tensor([-2, -1, -0.5, -0.0, 0.0, 0.25, 0.5, 1, 2, 6], dtype=torch.float64)


def tensor(value: float) -> Tensor:
    return torch.tensor(value, dtype=torch.float64)


# (h, p) -> activations of h, and the same in PyTorch's own functions where it is ours. p [1] is a weight.
ACTIVATIONS = {
    "relu": lambda h, p: F.relu(h),
    "relu in place": lambda h, p: F.relu_(h * 1),
    "leaky_relu": lambda h, p: F.leaky_relu(h, 0.2),
    "leaky_relu falling": lambda h, p: F.leaky_relu(h, -0.5),
    "leaky_relu 0": lambda h, p: F.leaky_relu(h, 0.0),
    "abs": lambda h, p: h.abs(),
    "prelu": lambda h, p: F.prelu(h, p),
    "hardtanh": lambda h, p: F.hardtanh(h, -0.5, 1.0),
    "relu6": lambda h, p: F.relu6(h),
    "clamp": lambda h, p: h.clamp(-0.5, 1.0),
    "clamp_min": lambda h, p: h.clamp(min=0),
    "clamp_max": lambda h, p: h.clamp(max=0.5),
    "clamp tensors": lambda h, p: h.clamp(tensor(-0.5), tensor(1.0)),
    "threshold": lambda h, p: F.threshold(h, 0.5, 0.0),
    "maximum": lambda h, p: torch.maximum(h, 0.5 * h.abs()),
    "minimum": lambda h, p: torch.minimum(h, -h),
    "where": lambda h, p: torch.where(h > 0, h, 0.1 * h),
    "amax": lambda h, p: h + h.view(-1, 5, 2).amax(2, keepdim=True).expand(-1, 5, 2).reshape(h.shape),
    "max_pool": lambda h, p: h + F.max_pool1d(h.abs()[:, None], 3, 1, 1)[:, 0],
    "sign": lambda h, p: h * h.sign(),
}
OURS = {
    "bias_act": (
        lambda h, p: bias_act(h, p.expand(len(Z)), act="lrelu", alpha=0.5, gain=2.0, clamp=1.0),
        lambda h, p: F.hardtanh(2.0 * F.leaky_relu(h + p, 0.5), -1, 1),
    ),
    "bias_act relu": (
        lambda h, p: bias_act(h, act="relu", gain=-1.0, clamp=0.5),
        lambda h, p: F.hardtanh(-F.relu(h), -0.5, 0.5),
    ),
    "bias_act linear": (
        lambda h, p: bias_act(h, act="linear", gain=0.5, clamp=1.0),
        lambda h, p: F.hardtanh(0.5 * h, -1, 1),
    ),
}
CASES = {**{name: (f, f) for name, f in ACTIVATIONS.items()}, **OURS}


class Critic(nn.Module):
    def __init__(self, act, generator):
        super().__init__()
        self.act = act
        self.w1, self.w2 = (nn.Parameter(torch.ones(len(Z), dtype=torch.float64)) for _ in range(2))
        self.w3 = nn.Parameter(torch.randn(len(Z), generator=generator, dtype=torch.float64))
        self.p = nn.Parameter(torch.tensor([0.25], dtype=torch.float64))

    def forward(self, x):
        h = self.act(x * self.w1, self.p)
        h = h + self.act(h * self.w2, self.p)
        return (h * self.w3).sum(1)


def loss(real: Tensor, fake: Tensor) -> Tensor:
    return F.softplus(-real).mean() + F.softplus(fake).mean()


@pytest.mark.parametrize("method", ["one_pass", "double_backward"])
@pytest.mark.parametrize("name", CASES)
def test_a_penalised_step_is_pytorchs_double_backward(name, method, generator):
    act, plain = CASES[name]
    critic = Critic(act, generator)
    # Twelve samples, each a shift of the others: every weight meets every kink. The bias of bias_act is 0.25.
    points = torch.stack([Z.roll(i) for i in range(len(Z))])
    real, fake = points, points.flip(0) - (0.25 if name == "bias_act" else 0)
    total = fastgan.critic_loss(critic, real, fake, loss=loss, penalties=(R1(3.0), R2(2.0)), method=method)
    assert total.method == method
    found = gradients(critic, total)
    critic.act = plain
    truth = gradients(critic, textbook(critic, real, fake, None, loss, 3.0, 2.0))
    assert relative_error(found, truth) < 1e-12


LOW, HIGH = tensor(-0.5), tensor(1.0)
# PyTorch 2.15's clamp, and functions with its slopes at the bounds: 0 for numbers, one half for tensors.
NEWER = {
    "numbers": (lambda h, p: h.clamp(-0.5, 1.0), lambda h, p: F.hardtanh(h, -0.5, 1.0)),
    "tensors": (lambda h, p: h.clamp(LOW, HIGH), lambda h, p: torch.minimum(torch.maximum(h, LOW), HIGH)),
    "below": (lambda h, p: h.clamp(min=LOW), lambda h, p: torch.maximum(h, LOW)),
    "above": (lambda h, p: h.clamp(max=HIGH), lambda h, p: torch.minimum(h, HIGH)),
    "infinite": (
        lambda h, p: h.where(h < 0.5, float("inf")).clamp(LOW, HIGH),
        lambda h, p: torch.minimum(torch.maximum(h, LOW), HIGH).where(h < 0.5, HIGH),
    ),
}


@pytest.mark.parametrize("name", NEWER)
def test_clamp_of_a_newer_pytorch(name, generator, monkeypatch):
    monkeypatch.setattr(piecewise, "_slope_at_a_bound", lambda tensors: 0.5 if tensors else 0.0)
    act, alike = NEWER[name]
    critic = Critic(act, generator)
    points = torch.stack([Z.roll(i) for i in range(len(Z))])
    total = fastgan.critic_loss(
        critic, points, points.flip(0), loss=loss, penalties=(R1(3.0), R2(2.0)), method="one_pass"
    )
    found = gradients(critic, total)
    critic.act = alike
    truth = gradients(critic, textbook(critic, points, points.flip(0), None, loss, 3.0, 2.0))
    assert relative_error(found, truth) < 1e-12
