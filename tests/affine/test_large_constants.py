"""Constants that are infinite, or so large that they swallow other summands: what is not chosen does not matter."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import fastgan
from fastgan.penalties import R1, R2
from tests.penalties.critics import gradients, relative_error, textbook

pytestmark = pytest.mark.usefixtures("one_thread")

INFINITY = float("inf")
DEAD = torch.arange(8) % 2 == 1


def loss(real: Tensor, fake: Tensor) -> Tensor:
    return F.softplus(-real).mean() + F.softplus(fake).mean()


def hinge(real: Tensor, fake: Tensor) -> Tensor:
    """Of which the slope is 0 for some samples."""
    return F.relu(0.1 - real).mean() + F.relu(0.1 + fake).mean()


# For each a function of h [samples, 8].
KINDS = {
    "masked_fill, relu": lambda h: F.relu(h.masked_fill(DEAD, -INFINITY)),
    "masked_fill, relu in place": lambda h: F.relu_(h.masked_fill(DEAD, -INFINITY)),
    "an addend, relu": lambda h: F.relu(h + torch.where(DEAD, -INFINITY, 0.0)),
    "an addend for each channel, relu": lambda h: F.relu(h.unflatten(1, (8, 1)) + torch.log(~DEAD)[:, None]).flatten(1),
    "masked_fill, bias_act": lambda h: fastgan.ops.bias_act(h.masked_fill(DEAD, -INFINITY), act="relu", clamp=0.7),
    "masked_fill, relu elsewhere": lambda h: F.relu(h.t().masked_fill(DEAD[:, None], -INFINITY)).t(),
    "masked_fill, hardtanh": lambda h: F.hardtanh(h.masked_fill(DEAD, -INFINITY)),
    "masked_fill, clamp": lambda h: h.masked_fill(DEAD, INFINITY).clamp(-0.3, 0.4),
    "masked_fill, clamp by tensors": lambda h: h.masked_fill(DEAD, INFINITY).clamp(*torch.tensor([-0.3, 0.4]).double()),
    "masked_fill, leaky_relu, amax": lambda h: (
        F.leaky_relu(h.masked_fill(DEAD, -INFINITY)).unflatten(1, (2, 4)).amax(2)
    ),
    "threshold, maximum": lambda h: torch.maximum(F.threshold(h, 0.1, -INFINITY), h.flip(1) - 3),
    "pad, amax": lambda h: F.pad(h, (1, 1), value=-INFINITY).unflatten(1, (2, 5)).amax(2),
    "pad, max_pool": lambda h: F.max_pool1d(F.pad(h[:, None], (1, 1), value=-INFINITY), 2).flatten(1),
    "masked_fill, amax": lambda h: h.masked_fill(DEAD, -INFINITY).unflatten(1, (2, 4)).amax(2),
    "masked_fill, amin": lambda h: h.masked_fill(DEAD, INFINITY).unflatten(1, (2, 4)).amin(2),
    "masked_fill, max": lambda h: h.masked_fill(DEAD, -INFINITY).unflatten(1, (2, 4)).max(2)[0],
    "cat, amax": lambda h: torch.stack([h, torch.full_like(h, -INFINITY)], 2).amax(2),
    "maximum": lambda h: torch.maximum(h, h.flip(1).masked_fill(DEAD, -INFINITY)),
    "maximum of a constant": lambda h: torch.maximum(torch.where(DEAD, -INFINITY, 0.0).double(), h),
    "minimum of a constant": lambda h: torch.minimum(h, torch.where(DEAD, 1e20, 0.0).double()),
    "maximum, 1e30": lambda h: torch.maximum(h, h.flip(1).masked_fill(DEAD, -1e30)),
    "maximum, 1e9": lambda h: torch.maximum(h, h.flip(1).masked_fill(DEAD, -1e9)),
    "where": lambda h: torch.where(DEAD, h.flip(1), h.masked_fill(DEAD, -INFINITY)),
    "ties": lambda h: torch.maximum(h.masked_fill(DEAD, 0.2), h.flip(1).masked_fill(DEAD, 0.2)),
    "ties of amax": lambda h: torch.cat([h, h, h - 1], 1).unflatten(1, (3, 8)).amax(1),
}


class Critic(nn.Module):
    def __init__(self, middle) -> None:
        super().__init__()
        self.a, self.middle = nn.Linear(6, 8), middle
        self.b = nn.Linear(middle(torch.zeros(1, 8, dtype=torch.float64)).shape[1], 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.middle(self.a(x)))


@pytest.mark.parametrize("of", [loss, hinge])
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_not_chosen_does_not_matter(kind, of):
    torch.manual_seed(3)
    critic = Critic(KINDS[kind]).double()
    real, fake = torch.randn(2, 5, 6, dtype=torch.float64)
    other = copy.deepcopy(critic)
    truth = gradients(other, textbook(other, real, fake, None, of, r1=4.0, r2=1.0))
    assert all(gradient.isfinite().all() for gradient in truth.values())
    found = fastgan.critic_loss(critic, real, fake, loss=of, penalties=(R1(4.0), R2(1.0)), method="one_pass")
    assert relative_error(gradients(critic, found), truth) <= 1e-10


@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_a_frozen_relu_makes_0_of_infinity(backend):
    x = torch.tensor([[-1.0, 2.0]])
    with fastgan.backends.backend(backend):
        mask = fastgan.ops.bias_act_with_mask(x, act="relu", gain=1.0)[1]
        y = fastgan.ops.frozen_bias_act(torch.tensor([[-INFINITY, 3.0]]), None, None, mask, act="relu", gain=1.0)
    torch.testing.assert_close(y, torch.tensor([[0.0, 3.0]]))
